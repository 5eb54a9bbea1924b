package cln

import (
	"strings"
	"testing"
)

var long = strings.Repeat("L", 1500)

// Every id but those marked otherwise was sent by a real node.
var paths = []struct {
	name         string
	path         Path
	last         string // process:method of the last component, "" for one of another form
	root, parent Path
}{
	{
		"asked by the plugin that serves the user",
		"cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459",
		"cln-xpay:getroutes",
		"cli:xpay#4021/cln:xpay#824", "cli:xpay#4021/cln:xpay#824",
	}, {
		"asked by a plugin that serves a plugin",
		"cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459/cln:getroutes#828/cln-askrene:listpeerchannels#55",
		"cln-askrene:listpeerchannels",
		"cli:xpay#4021/cln:xpay#824", "cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459",
	}, {
		"one plugin in both roles",
		"cli:fundchannel#3490/cln:fundchannel#279/spenderp:multifundchannel#2/cln:multifundchannel#280/spenderp:fundchannel_start#6",
		"spenderp:fundchannel_start",
		"cli:fundchannel#3490/cln:fundchannel#279", "cli:fundchannel#3490/cln:fundchannel#279/spenderp:multifundchannel#2",
	}, {
		"method with hyphens",
		"cli:xpay#3671/cln:xpay#310/cln-xpay:askrene-create-layer#6",
		"cln-xpay:askrene-create-layer",
		"cli:xpay#3671/cln:xpay#310", "cli:xpay#3671/cln:xpay#310",
	}, {
		"asked for by lightningd itself",
		"cln:init#38/cln-xpay:getinfo#1",
		"cln-xpay:getinfo",
		"cln:init#38", "cln:init#38",
	}, {
		"hook",
		"cln:custommsg#316/chanbackup:datastore#10",
		"chanbackup:datastore",
		"cln:custommsg#316", "cln:custommsg#316",
	}, {
		"hook that a user's request caused",
		"cli:connect#3479/cln:peer_connected#277/chanbackup:sendcustommsg#6",
		"chanbackup:sendcustommsg",
		"cli:connect#3479/cln:peer_connected#277", "cli:connect#3479/cln:peer_connected#277",
	}, {
		"number 0",
		"cln:init#38/cln-xpay:getchaininfo#0",
		"cln-xpay:getchaininfo",
		"cln:init#38", "cln:init#38",
	}, {
		"timer",
		"timer/cln-xpay:askrene-age#4",
		"cln-xpay:askrene-age",
		"timer/cln-xpay:askrene-age#4", "",
	}, {
		"notification",
		"notification-channel_state_changed/chanbackup:staticbackup#7",
		"chanbackup:staticbackup",
		"notification-channel_state_changed/chanbackup:staticbackup#7", "",
	}, {
		"client without the form",
		"weird-id/cln:sql#85/sql:listpeerchannels#3",
		"sql:listpeerchannels",
		"weird-id/cln:sql#85", "weird-id/cln:sql#85",
	}, {
		"client that sends a number",
		"123/cln:sql#84/sql:listpeerchannels#2",
		"sql:listpeerchannels",
		"123/cln:sql#84", "123/cln:sql#84",
	}, {
		"client that sends slashes and a forged path",
		"sl/ash/cln:pay#1/cln-xpay:fake#2/cln:sql#91/sql:listpeerchannels#9",
		"sql:listpeerchannels",
		"sl/ash/cln:pay#1", "sl/ash/cln:pay#1/cln-xpay:fake#2",
	}, {
		"client that sends other than ASCII",
		"ünï☃😀/cln:sql#90/sql:listpeerchannels#8",
		"sql:listpeerchannels",
		"ünï☃😀/cln:sql#90", "ünï☃😀/cln:sql#90",
	}, {
		"client that sends directives",
		"%s %n %d/cln:sql#95/sql:listpeerchannels#13",
		"sql:listpeerchannels",
		"%s %n %d/cln:sql#95", "%s %n %d/cln:sql#95",
	}, {
		"client that sends a lot",
		Path(long) + "/cln:sql#97/sql:listpeerchannels#15",
		"sql:listpeerchannels",
		Path(long) + "/cln:sql#97", Path(long) + "/cln:sql#97",
	},

	// From here on invented.
	{
		"what a timer's request caused belongs to the timer", "timer/cln-xpay:askrene-age#4/cln:askrene-age#77/cln-askrene:listpeerchannels#8",
		"cln-askrene:listpeerchannels",
		"timer/cln-xpay:askrene-age#4", "timer/cln-xpay:askrene-age#4",
	}, {
		"what a notification's request caused in the end",
		"notification-block_added/a:b#1/cln:b#2/c:d#3/cln:d#4/e:f#5",
		"e:f",
		"notification-block_added/a:b#1", "notification-block_added/a:b#1/cln:b#2/c:d#3",
	},
	{"timer that asks for nothing", "timer", "", "", ""},
	{"empty", "", "", "", ""},
	{"only the client", "cli:xpay#4021", "cli:xpay", "", ""},
	{"only lightningd", "cln:xpay#824", "cln:xpay", "cln:xpay#824", ""},
	{"user's request to lightningd", "cli:xpay#4021/cln:xpay#824", "cln:xpay", "cli:xpay#4021/cln:xpay#824", ""},
	{"root with slashes that nobody asked within", "a/b/c/cln:xpay#824", "cln:xpay", "a/b/c/cln:xpay#824", ""},
	{"slash", "/", "", "/", ""},
	{"slashes", "////", "", "/", "//"},
	{"slash at the start", "/cln:xpay#824/cln-xpay:getroutes#459", "cln-xpay:getroutes", "/cln:xpay#824", "/cln:xpay#824"},
	{"slash at the end", "cli:xpay#4021/cln:xpay#824/", "", "cli:xpay#4021/cln:xpay#824", "cli:xpay#4021/cln:xpay#824"},
	{"hash sign", "#", "", "", ""},
	{"no method", "cln:#5", "", "", ""},
	{"no process", ":xpay#5", "", "", ""},
	{"no number", "cln:xpay#", "", "", ""},
	{"neither number nor hash sign", "cln:xpay", "", "", ""},
	{"number that is none", "cln:xpay#5x", "", "", ""},
	{"negative number", "cln:xpay#-5", "", "", ""},
	{"number in other digits", "cln:xpay#٣", "", "", ""},
	{
		"lightningd without a number is not the root", "cli:a#1/cln:xpay/cln:pay#7/pay:x#1",
		"pay:x",
		"cli:a#1/cln:xpay/cln:pay#7", "cli:a#1/cln:xpay/cln:pay#7",
	},
	{"process that begins like lightningd", "clnx:a#1/cln-xpay:b#2/y:c#3", "y:c", "clnx:a#1/cln-xpay:b#2", "clnx:a#1/cln-xpay:b#2"},
	{"hash signs in the method", "cli:a#b#c#12", "cli:a#b#c", "", ""},
	{"colons in the method", "cli:a:b:c#12", "cli:a:b:c", "", ""},
	{"method other than ASCII", "cli:zahlungfür☃#12", "cli:zahlungfür☃", "", ""},
	{"not UTF-8", "cli:\xff\xfe#12", "cli:\xff\xfe", "", ""},
	{"very long number", Path("cln:xpay#" + strings.Repeat("9", 400)), "cln:xpay", Path("cln:xpay#" + strings.Repeat("9", 400)), ""},
	{
		"many components", "cln:a#1" + Path(strings.Repeat("/cln:a#1", 250)),
		"cln:a",
		"cln:a#1", "cln:a#1" + Path(strings.Repeat("/cln:a#1", 248)),
	},
}

func TestLastComponent(t *testing.T) {
	for _, tc := range paths {
		t.Run(tc.name, func(t *testing.T) {
			process, method := tc.path.Last()
			got := process + ":" + method
			if got == ":" {
				got = ""
			}
			if got != tc.last {
				t.Errorf("the last of %q is %q, want %q", tc.path, got, tc.last)
			}
		})
	}
}

func TestFirstComponent(t *testing.T) {
	for _, tc := range []struct {
		path Path
		want string
	}{
		{"cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459", "cli:xpay#4021"},
		{"cln:init#38/cln-xpay:getinfo#1", "cln:init#38"},
		{"timer/cln-xpay:askrene-age#4", "timer"},
		{"notification-channel_state_changed/chanbackup:staticbackup#7", "notification-channel_state_changed"},
		{"ünï☃😀/cln:sql#90/sql:listpeerchannels#8", "ünï☃😀"},
		{Path(long) + "/cln:sql#97/sql:listpeerchannels#15", long},
		{"cli:xpay#4021", "cli:xpay#4021"},
		{"/cln:xpay#824", ""},
		{"", ""},
	} {
		if got := tc.path.FirstComponent(); got != tc.want {
			t.Errorf("the first of %q is %q, want %q", tc.path, got, tc.want)
		}
	}
}

func TestRootAndParent(t *testing.T) {
	for _, tc := range paths {
		t.Run(tc.name, func(t *testing.T) {
			root := tc.path.Root()
			if root != tc.root {
				t.Errorf("the root of %q is %q, want %q", tc.path, root, tc.root)
			}
			if got := tc.path.Parent(tc.root); got != tc.parent {
				t.Errorf("the parent of %q is %q, want %q", tc.path, got, tc.parent)
			}
		})
	}
}

// All that one request of a user caused is one tree: from each path the
// parents lead to the same root, and every one but the root was itself asked.
func TestParentsOfOnePaymentLeadToItsRoot(t *testing.T) {
	const root = Path("cli:xpay#3671/cln:xpay#310")
	asked := map[Path]bool{root: true}
	for _, p := range []Path{
		"/cln-xpay:preapproveinvoice#5", "/cln-xpay:askrene-create-layer#6", "/cln-xpay:askrene-create-channel#7",
		"/cln-xpay:askrene-update-channel#8", "/cln-xpay:getroutes#9/cln:getroutes#314/cln-askrene:listpeerchannels#5",
		"/cln-xpay:getroutes#9", "/cln-xpay:askrene-reserve#10", "/cln-xpay:injectpaymentonion#11",
		"/cln-xpay:askrene-unreserve#12", "/cln-xpay:askrene-remove-layer#13",
	} {
		asked[root+p] = true
	}
	for p := range asked {
		if got := p.Root(); got != root {
			t.Errorf("the root of %s is %s", p, got)
		}
		at := p
		for at != root {
			if at = at.Parent(root); !asked[at] {
				t.Fatalf("from %s the parents lead to %q", p, at)
			}
		}
		if got := at.Parent(root); got != "" {
			t.Errorf("the root has the parent %q", got)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, tc := range paths {
		f.Add(string(tc.path))
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := Path(s)
		process, method := p.Last()
		if (process == "") != (method == "") || !strings.Contains(s, process+":"+method) && method != "" {
			t.Errorf("process %q and method %q of %q", process, method, s)
		}
		if first := p.FirstComponent(); !strings.HasPrefix(s, first) || strings.Contains(first, "/") {
			t.Errorf("first component %q of %q", first, s)
		}
		root := p.Root()
		if !strings.HasPrefix(s, string(root)) {
			t.Errorf("root %q of %q", root, s)
		}
		if again := root.Root(); again != root {
			t.Errorf("root %q of root %q of %q", again, root, s)
		}
		// However strange, it is a tree: going from parent to parent ends.
		for at, steps := p, 0; at != ""; steps++ {
			parent := at.Parent(root)
			if parent != "" && (len(parent) >= len(at) || len(parent) < len(root) || !strings.HasPrefix(string(at), string(parent))) {
				t.Fatalf("parent %q of %q with root %q", parent, at, root)
			}
			if parent == "" && at != root && root != "" {
				t.Fatalf("from %q the parents end at %q, not at the root %q", s, at, root)
			}
			if steps > len(s) {
				t.Fatalf("the parents of %q do not end", s)
			}
			at = parent
		}
	})
}

func BenchmarkPath(b *testing.B) {
	const p = Path("cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459/cln:getroutes#828/cln-askrene:listpeerchannels#55")
	b.ReportAllocs()
	for b.Loop() {
		p.Last()
		p.Parent(p.Root())
	}
}
