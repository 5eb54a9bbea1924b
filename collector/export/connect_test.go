package export

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"clntrace/collector/stats"
)

// writeCertificate writes a certificate and its key and returns their files.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// The options of clntrace are all that counts; the SDK looks elsewhere, too.
func TestEnvironmentChangesNothing(t *testing.T) {
	cert, key := writeCertificate(t)
	for _, signal := range []string{"", "TRACES_"} {
		for name, value := range map[string]string{
			"ENDPOINT": "https://127.0.0.1:1/elsewhere", "PROTOCOL": "http/json", "HEADERS": "content-type=text/odd",
			"TIMEOUT": "1", "COMPRESSION": "gzip", "INSECURE": "false",
			"CERTIFICATE": cert, "CLIENT_CERTIFICATE": cert, "CLIENT_KEY": key,
		} {
			t.Setenv("OTEL_EXPORTER_OTLP_"+signal+name, value)
		}
	}
	grpc, http := config(newBackend(t).endpoint), config(newHTTPBackend(t).endpoint)
	http.Protocol = ProtocolHTTP
	for _, cfg := range []Config{grpc, http} {
		p, report := export1(t, cfg)
		p.want(stats.Counts{Exported: 1})
		if report.Retries != 0 || report.LastError != "" {
			t.Errorf("%s: %+v", cfg.Protocol, report)
		}
	}
}
