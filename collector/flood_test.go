package collector

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkTakesItsShareInAFlood(t *testing.T) {
	for _, tc := range []struct {
		what   string
		worked time.Duration
		flood  time.Duration // how long it lasts
		want   time.Duration
	}{
		{"no flood", time.Second, 0, 0},
		{"a long one", 2 * time.Millisecond, time.Hour, 2 * time.Millisecond * (floodShare - 1)},
		{"one that ends", 20 * time.Millisecond, 30 * time.Millisecond, 30 * time.Millisecond},
		{"an endpoint that hangs", 10 * time.Second, time.Hour, floodWait},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				yield(tc.worked, func() bool { return time.Since(start) < tc.flood })
				if got := time.Since(start); got != tc.want {
					t.Errorf("waited %v, want %v", got, tc.want)
				}
			})
		})
	}
}

func TestWithoutASocketNothingWaits(t *testing.T) {
	new(Collector).yield(time.Hour) // would panic
}
