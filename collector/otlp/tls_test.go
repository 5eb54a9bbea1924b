package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp/otlptest"
)

// A renewed client certificate goes with the next connection, and half a renewal,
// or files that went missing, break none.
func TestClientCertificateIsRenewed(t *testing.T) {
	ca := otlptest.NewAuthority(t)
	dir := t.TempDir()
	cfg := Config{Endpoint: mustParse(t, "https://localhost:1"), CAFile: ca.File, CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	issue := func(serial int64) (cert, key []byte) { return ca.Issue(t, serial, time.Now().Add(time.Hour)) }
	cert, key := issue(7)
	otlptest.WriteFile(t, cfg.CertFile, cert)
	otlptest.WriteFile(t, cfg.KeyFile, key)
	client, err := loadTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName = "localhost"
	server := ca.Serving(t, "localhost", time.Now().Add(time.Hour))
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
	otlptest.WriteFile(t, cfg.CertFile, cert)
	expect("with one of two files renewed", 7)
	otlptest.WriteFile(t, cfg.KeyFile, key)
	expect("with both renewed", 8)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	expect("without files", 8)
	lapsed := &clientCertificate{certFile: cfg.CertFile, keyFile: cfg.KeyFile, latest: &tls.Certificate{Leaf: &x509.Certificate{NotAfter: time.Now().Add(-time.Second)}}}
	if _, err := lapsed.get(nil); err == nil || !strings.Contains(err.Error(), cannotBeRead) {
		t.Errorf("out of date and without files: %v", err)
	}
	if _, err := loadTLS(cfg); err == nil {
		t.Error("a start without the files is no error")
	}
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

// A renewed CA counts for the next connection, and half a renewal breaks none. What is
// verified is what Go verifies without it.
func TestAuthoritiesAreRenewed(t *testing.T) {
	first, second := otlptest.NewAuthority(t), otlptest.NewAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	renew := func(from string) {
		t.Helper()
		pem, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		otlptest.WriteFile(t, file, pem)
	}
	renew(first.File)
	client, err := loadTLS(Config{Endpoint: mustParse(t, "https://localhost:1"), CAFile: file})
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName = "localhost"
	soon := time.Now().Add(time.Hour)
	expect := func(when string, server *tls.Config, want string) {
		t.Helper()
		err := shake(t, client, server)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", when, err, want)
		}
	}
	expect("at first", first.Serving(t, "localhost", soon), "")
	expect("another CA", second.Serving(t, "localhost", soon), "unknown authority")
	renew(second.File)
	expect("after the renewal", second.Serving(t, "localhost", soon), "")
	expect("the CA from before", first.Serving(t, "localhost", soon), "unknown authority")
	otlptest.WriteFile(t, file, []byte("half"))
	expect("half a renewal", second.Serving(t, "localhost", soon), "")
	expect("another name", second.Serving(t, "collector.example", soon), "certificate is valid for collector.example, not localhost")
	expect("out of date", second.Serving(t, "localhost", time.Now().Add(-time.Hour)), "has expired")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("without the file", second.Serving(t, "localhost", soon), "")
	expect("another CA without the file", first.Serving(t, "localhost", soon), ", and the CA's certificate "+cannotBeRead+": open "+file)
	otlptest.WriteFile(t, file, []byte("half"))
	if _, err := loadTLS(Config{CAFile: file}); err == nil {
		t.Error("a start without a certificate is no error")
	}
}

// shake makes a connection and returns how the client's side of it failed.
func shake(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server = server.Clone()
		server.SessionTicketsDisabled = true // they come after the handshake, when nobody reads any more
		_ = tls.Server(far, server).HandshakeContext(t.Context())
		far.Close()
	}()
	err := tls.Client(near, client).HandshakeContext(t.Context())
	near.Close()
	<-done
	return err
}
