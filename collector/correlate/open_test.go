package correlate

import (
	"testing"
	"time"
)

func TestOpenRequests(t *testing.T) {
	p := newProcess(1, "cln-xpay")
	c := newTimed(Options{Run: run}, epoch)
	c.send(newCommand(3, "askrene-reserve", 100, 50), newRequest(p, 1, "cli:xpay#1/cln:xpay#2/cln-xpay:askrene-reserve#1", 0, 400),
		newCommand(4, "injectpaymentonion", 700, 50), // of which nothing has come
		newRequest(p, 2, "cli:pay#7/cln:xpay-as-pay#8/cln-xpay:askrene-reserve#3", 1*second, 400))
	for range 2 { // while it is active, and when it is held
		list := c.OpenRequests(c.now)
		if len(list) != 1 || list[0].Method != "xpay" || list[0].WaitsFor != "injectpaymentonion" || list[0].Process != p || list[0].Start != epoch.UnixMicro() {
			t.Fatalf("got %+v", list)
		}
		c.advance(c.now.Add(2 * quiet))
	}
	c.send(newRequest(p, 5, "cli:xpay#1/cln:xpay#2/cln-xpay:injectpaymentonion#2", 500, 30*second))
	c.advance(c.now.Add(time.Second))
	if list := c.OpenRequests(c.now); len(list) != 0 {
		t.Errorf("after the answer: %+v", list)
	}
}
