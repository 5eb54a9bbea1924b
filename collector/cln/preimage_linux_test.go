package cln

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// secretByte is the i-th byte of a preimage that is nowhere in memory as a whole.
func secretByte(i int) byte { return byte(i*167 + 0x5e) }

// secretDigit is the i-th hex digit of that preimage.
func secretDigit(i int) byte { return "0123456789abcdef"[secretByte(i/2)>>(4*(1-i%2))&15] }

// maxRegion leaves out what the race detector keeps, which is not the program's.
const maxRegion = 128 << 20

// notification is not on the stack, which leaves copies behind when it grows.
var notification = make([]byte, 0, 256)

// TestPreimageIsWiped looks for a preimage in all memory that may be written to, once
// its notification has been read.
func TestPreimageIsWiped(t *testing.T) {
	params := append(notification, `{"invoice_payment":{"msat":1000,"label":"x","preimage":"`...)
	for i := range 64 {
		params = append(params, secretDigit(i))
	}
	params = append(params, `"}}`...)
	for range 3 {
		if _, err := ParseNotification(TopicInvoicePaid, append([]byte(nil), params...)); err != nil {
			t.Fatal(err)
		}
	}
	if found := searchMemory(t); found == 0 {
		t.Error("the text of the notification is not found, so this test finds nothing")
	}
	clear(params)
	if found := searchMemory(t); found > 0 {
		t.Errorf("%d copies of the preimage are left", found)
	}
}

// searchMemory counts the copies of the first half of the preimage, as bytes and as
// text.
func searchMemory(t *testing.T) (found int) {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	piece := make([]byte, 1<<20)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") || to-from > maxRegion {
			continue
		}
		for ; from < to; from += int64(len(piece)) - 32 {
			n, _ := memory.ReadAt(piece[:min(int64(len(piece)), to-from)], from) // what cannot be read holds nothing
			found += countSecrets(piece[:n])
			clear(piece)
		}
	}
	return found
}

func countSecrets(b []byte) int {
	return count(b, 16, secretByte) + count(b, 32, secretDigit)
}

// count counts where b goes on as is says, for length bytes.
func count(b []byte, length int, is func(i int) byte) (found int) {
	for {
		at := bytes.IndexByte(b, is(0))
		if at < 0 || at+length > len(b) {
			return found
		}
		b = b[at:]
		same := 1
		for same < length && b[same] == is(same) {
			same++
		}
		if same == length {
			found++
		}
		b = b[1:]
	}
}
