package export

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
)

// loadTLS reads the PEM files that cfg names. The client's certificate and key are
// read again for each connection: certificates for machines are renewed every few
// weeks, while nodes run for months.
func loadTLS(cfg Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA's certificate: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the CA's certificate: %s holds no PEM certificate", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		c := &clientCertificate{certFile: cfg.CertFile, keyFile: cfg.KeyFile}
		if err := c.read(); err != nil {
			return nil, fmt.Errorf("reading the client's certificate and key: %w", err)
		}
		t.GetClientCertificate = c.get
	}
	return t, nil
}

// clientCertificate is a certificate with its key, in two files that somebody else
// renews.
type clientCertificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	latest *tls.Certificate // that could be read
}

func (c *clientCertificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.latest = &pair
	return nil
}

// get returns the certificate for a new connection. If the files cannot be used, as
// when only one of them has been replaced yet, it is the one from before.
func (c *clientCertificate) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.read()
	return c.latest, nil
}
