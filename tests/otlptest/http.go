package otlptest

import (
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
	return Body(http.DefaultClient.Do(request))
}

// Body returns the body of an answer 200. Any other answer is an error that holds it.
func Body(response *http.Response, err error) ([]byte, error) {
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
