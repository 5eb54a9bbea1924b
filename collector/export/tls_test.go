package export

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeFile writes an input of a test.
func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A renewed client certificate goes with the next connection, and half a renewal,
// or files that went missing, break none.
func TestClientCertificateIsRenewed(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	cfg := Config{CAFile: ca.file, CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	issue := func(serial int64) (cert, key []byte) {
		der, private := ca.sign(t, &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)})
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), encodeKey(t, private)
	}
	cert, key := issue(7)
	writeFile(t, cfg.CertFile, cert)
	writeFile(t, cfg.KeyFile, key)
	client, err := loadTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName = "localhost"
	server := ca.serving(t, "localhost", time.Now().Add(time.Hour))
	server.ClientAuth = tls.RequireAnyClientCert
	server.SessionTicketsDisabled = true // they come after the handshake, when nobody reads any more

	expect := func(when string, serial int64) {
		t.Helper()
		if got := shown(t, client, server); got.Cmp(big.NewInt(serial)) != 0 {
			t.Errorf("%s: the certificate with serial %d was shown, want %d", when, got, serial)
		}
	}
	expect("at first", 7)
	cert, key = issue(8)
	writeFile(t, cfg.CertFile, cert)
	expect("with one of two files renewed", 7)
	writeFile(t, cfg.KeyFile, key)
	expect("with both renewed", 8)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	expect("without files", 8)
	if _, err := loadTLS(cfg); err == nil {
		t.Error("a start without the files is no error")
	}
}

func encodeKey(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// shown makes a connection and returns the serial number of the certificate that
// the client showed the server.
func shown(t *testing.T, client, server *tls.Config) *big.Int {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Client(near, client).HandshakeContext(t.Context()) }()
	conn := tls.Server(far, server)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber
}
