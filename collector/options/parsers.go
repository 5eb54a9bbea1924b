package options

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/otlp"
)

// parser reads the value of an option.
type parser struct {
	set   func(*Config, string) error
	limit string // the range of values, in words; empty: doc says what they are
}

func parseEndpoint(s string) (otlp.Endpoint, error) {
	e, err := otlp.ParseEndpoint(s)
	if err == nil {
		err = checkText(s)
	}
	return e, err
}

var (
	protocol    = oneOf(func(c *Config) *otlp.Protocol { return &c.Protocol }, otlp.ProtocolGRPC, otlp.ProtocolHTTP)
	compression = oneOf(func(c *Config) *otlp.Compression { return &c.Compression }, otlp.CompressionNone, otlp.CompressionGzip)
	spanNames   = oneOf(func(c *Config) *cln.SpanNames { return &c.SpanNames }, cln.SpanNamesSemantic, cln.SpanNamesAsSent)
)

// oneOf reads one of two words.
func oneOf[T ~string](field func(*Config) *T, one, other T) parser {
	return parser{set: func(c *Config, s string) error {
		if word := T(s); word == one || word == other {
			*field(c) = word
			return nil
		}
		return fmt.Errorf("must be %s or %s", one, other)
	}}
}

var payments = parser{set: func(c *Config, s string) error {
	p, found := cln.ParsePayments(s)
	if !found {
		return fmt.Errorf("must be %v, %v, %v or %v", cln.PaymentsOff, cln.PaymentsLocal, cln.PaymentsOutcomes, cln.PaymentsAll)
	}
	c.Payments = p
	return nil
}}

func listenAddress(field func(*Config) *string) parser {
	return parser{set: func(c *Config, s string) error {
		*field(c) = s
		return checkListenAddress(s)
	}}
}

func durationTo(most time.Duration, field func(*Config) *time.Duration) parser {
	return parser{
		limit: inWords(minDuration) + " to " + inWords(most),
		set: func(c *Config, s string) (err error) {
			*field(c), err = parseDuration(s, most)
			return err
		},
	}
}

// inWords writes a duration as an operator would: 10m, and not 10m0s.
func inWords(d time.Duration) string {
	s := d.String()
	if d >= time.Minute {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}

func wholeNumber(low, high int, field func(*Config) *int) parser {
	return parser{
		limit: fmt.Sprintf("%d to %d", low, high),
		set: func(c *Config, s string) (err error) {
			*field(c), err = parseInt(s, low, high)
			return err
		},
	}
}

func boolean(field func(*Config) *bool) parser {
	return parser{set: func(c *Config, s string) (err error) {
		*field(c), err = parseBool(s)
		return err
	}}
}

func shortText(field func(*Config) *string) parser {
	return parser{set: func(c *Config, s string) error {
		*field(c) = s
		return checkText(s)
	}}
}

func path(field func(*Config) *string) parser {
	return parser{set: func(c *Config, s string) error {
		if err := checkPath(s); err != nil {
			return err
		}
		*field(c) = cmp.Or(s, *field(c))
		return nil
	}}
}

func file(check func(string) error, field func(*Config) *string) parser {
	return parser{set: func(c *Config, s string) error {
		if *field(c) = s; s == "" {
			return nil
		}
		if err := checkPath(s); err != nil || check == nil {
			return err
		}
		return check(s)
	}}
}
