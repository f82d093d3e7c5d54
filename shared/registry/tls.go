package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// tlsParameters are those of an address that say something of TLS.
var tlsParameters = []string{"ca_file", "cert_file", "key_file", "server_name"}

// readTLS returns what the parameters of an address say of TLS. It reads the
// files that they name.
func readTLS(take func(name string) string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: take("server_name")}
	if file := take("ca_file"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", file)
		}
	}
	cert, key := take("cert_file"), take("key_file")
	switch {
	case cert == "" && key != "":
		return nil, errors.New("key_file needs cert_file")
	case cert == "":
		return cfg, nil
	case key == "":
		key = cert // one file may hold both
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert_file, key_file: %w", err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}
