package export

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"clntrace/collector/correlate"
	"clntrace/collector/policy"
)

func statement(i int, text string) *correlate.Span {
	s := newSpan(uint64(i+1), "db_query_prepared", "query", text)
	s.Detail = "SELECT " + text[:4]
	return s
}

func TestOperationsAreDescribedOnce(t *testing.T) {
	d := newDescriptions(databaseSystem("sqlite3"))
	d.begin(nil)
	first, second := newOutgoing(statement(1, "SELECT 1")), newOutgoing(statement(2, "SELECT 1"))
	d.describe(first.in, first.out)
	d.describe(second.in, second.out)
	if len(d.known) != 1 || &first.out.encoded[0] != &second.out.encoded[0] {
		t.Errorf("%d operations are known", len(d.known))
	}
	// What happened to one span must not show in another.
	second.in.Request = "cli:x#1"
	d.describe(second.in, second.out)
	d.describe(first.in, first.out)
	if strings.Contains(string(first.out.encoded), "cli:x#1") || !strings.Contains(string(second.out.encoded), "cli:x#1") {
		t.Errorf("encoded %q and %q", first.out.encoded, second.out.encoded)
	}
	if len(first.Attributes())+1 != len(second.Attributes()) {
		t.Errorf("attributes %v and %v", first.Attributes(), second.Attributes())
	}
}

// What tells of one request alone is not worth remembering, or may be secret.
func TestWhatDoesNotRecurIsNotRemembered(t *testing.T) {
	d := newDescriptions(databaseSystem("sqlite3"))
	d.begin(nil)
	root := newSpan(4, "pay")
	root.Synthetic, root.Detail = true, "pay"
	for _, s := range []*correlate.Span{
		newSpan(1, "jsonrpc", "id", "cli:pay#1"), newSpan(2, "xpay/payment", "payment_hash", "00ff"),
		newSpan(3, "a", "query", "1", "query", "2", "query", "3"), root,
	} {
		d.describe(s, new(outgoing))
	}
	if len(d.known) != 0 {
		t.Errorf("%d operations are known", len(d.known))
	}
}

func TestRememberedOperationsAreBounded(t *testing.T) {
	d := newDescriptions(databaseSystem("sqlite3"))
	d.begin(nil)
	most := 0
	for i := range 3000 {
		d.describe(statement(i, fmt.Sprintf("%04d%s", i, strings.Repeat("x", 1900))), new(outgoing))
		most = max(most, len(d.known))
		if d.bytes > maxDescribed {
			t.Fatalf("%d bytes are remembered", d.bytes)
		}
	}
	if most < 100 || most > maxDescribed/1900 {
		t.Errorf("at most %d operations were remembered", most)
	}
}

// A new policy or another database reaches what was described before.
func TestNewPolicyIsSeenAtOnce(t *testing.T) {
	const secret = "SELECT secret"
	d := newDescriptions(databaseSystem("sqlite3"))
	s := newOutgoing(statement(1, secret))
	policies := []*policy.Policy{
		nil, policy.New(policy.Config{SampleRatio: 1, RedactTags: []string{"query"}}),
		policy.New(policy.Config{SampleRatio: 1, NamesAsSent: true}), policy.New(policy.Config{SampleRatio: 1}),
	}
	for i, p := range slices.Concat(policies, policies) {
		d.begin(p)
		d.describe(s.in, s.out)
		d.describe(s.in, s.out)
		hidden := i%4 == 1
		if shown := strings.Contains(string(s.out.encoded), secret); shown == hidden {
			t.Errorf("policy %d: shown %v", i, shown)
		}
		if got := s.Name() == s.in.Name; got != (i%4 == 1 || i%4 == 2) {
			t.Errorf("policy %d: the name is %q", i, s.Name())
		}
		d.end()
	}
}
