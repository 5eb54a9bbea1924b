//go:build unix && !linux

package socket

const chargeStep = maxDatagram

// charges is unknown: nobody says who sent a datagram here.
type charges struct {
	buffer int
	steps  [2]int
}

func measureCharges() *charges { return new(charges) }
