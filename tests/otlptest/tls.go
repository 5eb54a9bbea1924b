package otlptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configtls"
)

// TLSFiles are PEM files: a CA, and a client's certificate and key, signed by it.
type TLSFiles struct {
	CA, ClientCert, ClientKey string

	serverCert, serverKey string
}

func (f TLSFiles) server() configtls.ServerConfig {
	c := configtls.NewDefaultServerConfig()
	c.CertFile, c.KeyFile, c.ClientCAFile = f.serverCert, f.serverKey, f.CA
	return c
}

// authority signs certificates for a test, and is gone after it.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTLSFiles(t testing.TB) TLSFiles {
	t.Helper()
	a := authority{dir: t.TempDir()}
	a.cert = template("authority")
	a.cert.IsCA, a.cert.KeyUsage = true, x509.KeyUsageCertSign
	var f TLSFiles
	f.CA, _ = a.issue(t, a.cert)
	server := template("server")
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	f.serverCert, f.serverKey = a.issue(t, server)
	client := template("client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	f.ClientCert, f.ClientKey = a.issue(t, client)
	return f
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
	}
}

// issue signs a certificate, its own if it is the authority's, and returns its
// file and that of its key.
func (a *authority) issue(t testing.TB, c *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA {
		a.key = key
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(a.dir, c.Subject.CommonName)
	return writePEM(t, name+".pem", "CERTIFICATE", cert), writePEM(t, name+"-key.pem", "EC PRIVATE KEY", private)
}

func writePEM(t testing.TB, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
