package otlptest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// Get returns what a backend's API answers, in one of the formats that accept lists.
func Get(url, accept string) ([]byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	return do(request)
}

// Post sends a backend an OTLP request in protobuf.
func Post(url string, body []byte) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	_, err = do(request)
	return err
}

// do returns the body of an answer 200. Any other answer is an error that holds it.
func do(request *http.Request) ([]byte, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}
