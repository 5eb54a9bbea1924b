package options

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration // 0: refused
	}{
		{"10s", 10 * time.Second},
		{"750ms", 750 * time.Millisecond},
		{"10m", 10 * time.Minute},
		{"10m1ns", 0},
		{"1ms", time.Millisecond},
		{"999us", 0},
		{"0s", 0},
		{"-1s", 0},
		{"10", 0},
		{"", 0},
		{"ten seconds", 0},
		{"9999999999h", 0},
	} {
		got, err := parseDuration(tt.in, maxTimeout)
		if got != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseInt(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int // -1: refused
	}{
		{"1", 1}, {"1024", 1024}, {"0x400", 1024}, {"010", 8}, {"+5", 5},
		{"0", -1}, {"1025", -1}, {"-1", -1}, {"1e3", -1}, {"1.0", -1}, {"", -1}, {"99999999999999999999", -1},
	} {
		got, err := parseInt(tt.in, 1, 1024)
		if tt.want == -1 {
			if err == nil {
				t.Errorf("parseInt(%q) = %d, want an error", tt.in, got)
			}
		} else if got != tt.want || err != nil {
			t.Errorf("parseInt(%q) = %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
}

func TestParseRatio(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want float64 // NaN: refused
	}{
		{"0", 0}, {"1", 1}, {"0.25", 0.25}, {"1e-3", 0.001}, {".5", 0.5},
		{"NaN", math.NaN()}, {"nan", math.NaN()}, {"Inf", math.NaN()}, {"-0.1", math.NaN()},
		{"0x1p-2", math.NaN()}, {"0_1", math.NaN()},
		{"1.0000001", math.NaN()}, {"50%", math.NaN()}, {"", math.NaN()},
	} {
		got, err := parseRatio(tt.in)
		if math.IsNaN(tt.want) {
			if err == nil {
				t.Errorf("parseRatio(%q) = %v, want an error", tt.in, got)
			}
		} else if got != tt.want || err != nil {
			t.Errorf("parseRatio(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseBool(t *testing.T) {
	for in, want := range map[string]bool{"true": true, "TRUE": true, "yes": true, "1": true, "false": false, "No": false, "0": false} {
		if got, err := parseBool(in); got != want || err != nil {
			t.Errorf("parseBool(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "on", "2", "truee"} {
		if _, err := parseBool(in); err == nil {
			t.Errorf("parseBool(%q) passed", in)
		}
	}
}

func TestParseUIDs(t *testing.T) {
	got, err := parseUIDs(" 0, 1000 ,4294967294,")
	if want := []uint32{0, 1000, 4294967294}; !slices.Equal(got, want) || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, in := range []string{"4294967295", "-1", "alice", "1 2", "0x10", "99999999999"} {
		if got, err := parseUIDs(in); err == nil {
			t.Errorf("parseUIDs(%q) = %v, want an error", in, got)
		}
	}
}

func TestParseList(t *testing.T) {
	got, err := parseList(" db_* ,jsonrpc,, plugin/bitcoind ", checkText)
	if want := []string{"db_*", "jsonrpc", "plugin/bitcoind"}; !slices.Equal(got, want) || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := parseList("", checkText); len(got) != 0 || err != nil {
		t.Errorf("an empty list gives %v, %v", got, err)
	}
	for name, in := range map[string]string{
		"control character": "a\x01b",
		"not UTF-8":         "a\xffb",
		"long entry":        strings.Repeat("x", maxName+1),
		"many entries":      strings.Repeat("x,", maxList+1),
	} {
		if _, err := parseList(in, checkText); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func TestParseHeaders(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     map[string]string
		err      string
	}{
		{name: "one", in: "Authorization=Bearer%20abc", want: map[string]string{"authorization": "Bearer abc"}},
		{name: "two, spaces", in: " a = 1 , b = 2 ", want: map[string]string{"a": "1", "b": "2"}},
		{name: "equals sign in value", in: "a=b==", want: map[string]string{"a": "b=="}},
		{name: "plus stays", in: "a=1+1", want: map[string]string{"a": "1+1"}},
		{name: "comma encoded", in: "a=1%2C2", want: map[string]string{"a": "1,2"}},
		{name: "empty value", in: "a=", want: map[string]string{"a": ""}},
		{name: "trailing comma", in: "a=1,", want: map[string]string{"a": "1"}},
		{name: "empty", in: "", want: map[string]string{}},
		{name: "no value", in: "a=1,secret", err: "entry 2 is not key=value"},
		{name: "no key", in: "=secret", err: "entry 1 is not key=value"},
		{name: "bad percent", in: "a=secret%zz", err: "entry 1 has a %"},
		{name: "line break", in: "a=secret%0d%0ab", err: "not printable ASCII"},
		{name: "not ASCII", in: "a=secr%C3%A9t", err: "not printable ASCII"},
		{name: "header of the connection", in: "a=1,Connection=secret", err: "entry 2 is a header of the connection's own"},
		{name: "header of the body", in: "content-encoding=secret", err: "clntrace sees to"},
		{name: "key not a token", in: "sec ret=1", err: "not a header name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseHeaders(tt.in)
			if tt.err == "" {
				if err != nil || !maps.Equal(got, tt.want) {
					t.Errorf("got %v, %v; want %v", got, err, tt.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want an error with %q", err, tt.err)
			} else if strings.Contains(err.Error(), "secr") {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
}
