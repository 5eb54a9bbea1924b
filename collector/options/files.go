package options

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// readPEM reads a file that an operator named. It must be a regular file: reading
// a pipe would block init, and with it the node.
func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxPEM) {
		return nil, errors.New("it is not a regular file of at most 1 MiB; must be a PEM file")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("it cannot be read (%w); must be a PEM file that user %d may read", reason(err), os.Geteuid())
	case err != nil:
		return nil, fmt.Errorf("it cannot be read (%w); must be a PEM file", reason(err))
	}
	return data, nil
}

// reason is err without the path, which the sentence around it already names.
func reason(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// checkCA makes sure that path holds certificates.
func checkCA(path string) error {
	file, err := readPEM(path)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(file) {
		return errors.New("it holds no certificate; must be a PEM file with the CA's certificate")
	}
	return nil
}

// checkKeyPair makes sure that certificate and key belong together. Its errors
// say which of the two files is at fault.
func checkKeyPair(certFile, keyFile string) error {
	const tail = "; must be a PEM file with the client's "
	cert, err := readPEM(certFile)
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	key, err := readPEM(keyFile)
	if err != nil {
		return fmt.Errorf("the key: %w", err)
	}
	if !holds(cert, "CERTIFICATE") {
		return errors.New("there is no certificate in the first" + tail + "certificate")
	}
	switch {
	case !holds(key, "PRIVATE KEY"):
		return errors.New("there is no key in the second" + tail + "key")
	case holds(key, "ENCRYPTED") || bytes.Contains(key, []byte("Proc-Type: 4,ENCRYPTED")):
		return errors.New("the key is encrypted; must be one that is not, as 'openssl pkey' writes it")
	}
	if _, err = tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("they cannot be used together (%w); must be a client's certificate and its own key", err)
	}
	return nil
}

// holds reports whether a PEM file has a block whose type contains part.
func holds(file []byte, part string) bool {
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			return false
		}
		if strings.Contains(block.Type, part) {
			return true
		}
	}
}
