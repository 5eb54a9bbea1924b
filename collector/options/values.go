package options

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// Bounds of what an operator can set. They keep a typo from costing memory or
// from hiding a fault for hours.
const (
	minDuration = time.Millisecond
	maxTimeout  = 10 * time.Minute // an export attempt that takes longer will not succeed
	maxDelay    = time.Minute      // what waits for a batch to fill is lost if the process is killed
	maxList     = 256              // entries of one list
	maxName     = 255              // bytes of one name, attribute or pattern
	maxPEM      = 1 << 20          // bytes of a PEM file; a system's whole CA bundle has a quarter of that
	maxUID      = 1<<32 - 2        // 1<<32-1 means "no user" to the kernel
)

// parseDuration reads a Go duration from minDuration to limit.
func parseDuration(s string, limit time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < minDuration || d > limit {
		return 0, fmt.Errorf("must be a duration from %s to %s, such as 750ms or 10s", inWords(minDuration), inWords(limit))
	}
	return d, nil
}

// parseInt reads a whole number from low to high, in any base that strtol(…, 0)
// takes: that is how lightningd has checked the value before.
func parseInt(s string, low, high int) (int, error) {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		return 0, fmt.Errorf("must be a whole number from %d to %d", low, high)
	}
	return int(n), nil
}

// parseRatio reads a decimal number from 0 to 1.
func parseRatio(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "xX_") || !(f >= 0 && f <= 1) { // not f < 0 || f > 1: that lets NaN pass
		return 0, errors.New("must be a number from 0 to 1")
	}
	return f, nil
}

// parseBool accepts what lightningd accepts for a bool option.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "yes", "1":
		return true, nil
	case "false", "no", "0":
		return false, nil
	}
	return false, errors.New("must be true or false")
}

// parseList splits at commas, trims, and leaves out empty entries. Each entry
// passes check, whose error says what is allowed.
func parseList(s string, check func(string) error) ([]string, error) {
	var list []string
	for entry := range strings.SplitSeq(s, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if err := check(entry); err != nil {
			return nil, err
		}
		if len(list) == maxList {
			return nil, fmt.Errorf("must be at most %d entries", maxList)
		}
		list = append(list, entry)
	}
	return list, nil
}

// checkText accepts text that can be a name in OTLP and in a log line.
func checkText(s string) error {
	if len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("must be text of at most %d bytes without control characters", maxName)
	}
	return nil
}

// parseUIDs reads comma-separated numeric user ids.
func parseUIDs(s string) ([]uint32, error) {
	var uids []uint32
	_, err := parseList(s, func(entry string) error {
		n, err := strconv.ParseUint(entry, 10, 32)
		if err != nil || n > maxUID {
			return errors.New("must be numeric user ids separated by commas, such as 1000,1001; 'id -u NAME' prints one")
		}
		uids = append(uids, uint32(n))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return uids, nil
}

// parsePairs reads key=value,key2=value2 as the OpenTelemetry specification
// defines it for headers and resource attributes: W3C Baggage without properties,
// with percent-encoded values; decode says how keys are written. Errors name entries only by their position: any
// part of a broken entry may be a secret.
func parsePairs(s string, decode func(key string) (string, error), check func(key, value string) error) (map[string]string, error) {
	pairs := make(map[string]string)
	for i, entry := range strings.Split(s, ",") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		key, value, found := strings.Cut(entry, "=")
		key = strings.TrimSpace(key)
		if !found || key == "" {
			return nil, pairError(i, "is not key=value")
		}
		key, keyErr := decode(key)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil || keyErr != nil {
			return nil, pairError(i, "has a % that is not followed by two hexadecimal digits")
		}
		if err := check(key, value); err != nil {
			return nil, pairError(i, err.Error())
		}
		if pairs[key] = value; len(pairs) > maxList {
			return nil, fmt.Errorf("must be at most %d entries", maxList)
		}
	}
	return pairs, nil
}

// asItIs is how keys are written that need no encoding, because they are tokens.
func asItIs(key string) (string, error) { return key, nil }

func pairError(i int, what string) error {
	return fmt.Errorf("entry %d %s; must be key=value,key2=value2 with values percent-encoded (a comma is %%2C)", i+1, what)
}

// checkHeader accepts what both gRPC and HTTP can carry. They would refuse
// anything else only at the first export, long after the mistake was made.
func checkHeader(key, value string) error {
	if !httpguts.ValidHeaderFieldName(key) {
		return errors.New("has a key that is not a header name")
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errors.New("has a value that is not printable ASCII")
	}
	switch strings.ToLower(key) {
	// Those that HTTP/2, and so gRPC, takes for an error of the whole request
	// (RFC 9113, 8.2.2), and the one that would belie the body.
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "content-encoding":
		return errors.New("is a header of the connection's own, which clntrace sees to")
	}
	return nil
}

func checkAttribute(key, value string) error {
	if checkText(key) != nil || !utf8.ValidString(value) {
		return errors.New("is not text")
	}
	return nil
}

// parseHeaders reads headers and makes their names lower case, as gRPC demands
// and HTTP permits.
func parseHeaders(s string) (map[string]string, error) {
	pairs, err := parsePairs(s, asItIs, checkHeader)
	if err != nil {
		return nil, fmt.Errorf("%w, such as authorization=Bearer%%20TOKEN", err)
	}
	headers := make(map[string]string, len(pairs))
	for k, v := range pairs {
		headers[strings.ToLower(k)] = v
	}
	return headers, nil
}

// checkListenAddress accepts an address to listen on, and an empty one for none. The
// host may be empty, which means all addresses.
func checkListenAddress(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		err = checkText(host)
	}
	number, numberErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numberErr != nil || number == 0 || strings.ContainsAny(host, " /@") {
		return errors.New("must be host:port, such as localhost:9464")
	}
	return nil
}

// checkPath accepts what the system can open, and refuses ~, which only a shell
// expands.
func checkPath(path string) error {
	switch {
	case strings.ContainsRune(path, 0):
		return errors.New("must be a path")
	case strings.HasPrefix(path, "~"):
		return errors.New("only a shell knows what ~ stands for; write the whole path")
	}
	return nil
}
