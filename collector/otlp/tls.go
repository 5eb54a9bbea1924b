package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// loadTLS reads the PEM files that cfg names. All of them are read again for each
// connection: certificates for machines are renewed every few weeks, and CAs too, while
// nodes run for months.
func loadTLS(cfg Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		ca := &authorities{file: cfg.CAFile, host: cfg.Endpoint.serverName()}
		if err := ca.read(); err != nil {
			return nil, fmt.Errorf("reading the CA's certificate: %w", err)
		}
		// Go's own verification has the CAs from the time of the configuration. With
		// them read anew, ours takes its place: authorities.verify does the same.
		t.InsecureSkipVerify = true //nolint:gosec // see above
		t.VerifyConnection = ca.verify
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

// authorities are the CAs in a file that somebody else renews.
type authorities struct {
	file string
	host string // that the server's certificate has to be for

	mu     sync.Mutex
	latest *x509.CertPool // that could be read
}

func (a *authorities) read() error {
	pem, err := os.ReadFile(a.file)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no PEM certificate", a.file)
	}
	a.latest = pool
	return nil
}

// pool returns the CAs for a new connection. If the file cannot be used, as when it is
// being written, they are those from before, and unread says why.
func (a *authorities) pool() (pool *x509.CertPool, unread error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	unread = a.read()
	return a.latest, unread
}

// cannotBeRead is in the errors of files that could be read once.
const cannotBeRead = "cannot be read any more"

// verify checks the server's certificate: its chain, its time and its name.
func (a *authorities) verify(c tls.ConnectionState) error {
	if len(c.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	pool, unread := a.pool()
	o := x509.VerifyOptions{Roots: pool, DNSName: a.host, Intermediates: x509.NewCertPool()}
	for _, cert := range c.PeerCertificates[1:] {
		o.Intermediates.AddCert(cert)
	}
	if _, err := c.PeerCertificates[0].Verify(o); err != nil {
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown && unread != nil {
			err = fmt.Errorf("%w, and the CA's certificate %s: %w", err, cannotBeRead, unread)
		}
		return &tls.CertificateVerificationError{UnverifiedCertificates: c.PeerCertificates, Err: err}
	}
	return nil
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
// when only one of them has been replaced yet, it is the one from before, unless that is
// out of date.
func (c *clientCertificate) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if unread := c.read(); unread != nil && time.Now().After(c.latest.Leaf.NotAfter) {
		return nil, fmt.Errorf("the client's certificate is out of date, and %s: %w", cannotBeRead, unread)
	}
	return c.latest, nil
}
