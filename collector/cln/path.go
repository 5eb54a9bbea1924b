package cln

import (
	"strconv"
	"strings"
)

// Path is the id that a C plugin gives its JSON-RPC request: a path that shows which
// process asked which, such as
//
//	cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459/cln:getroutes#828/cln-askrene:listpeerchannels#55
//
// Each component is process:method#number. A component of the process cln means
// that lightningd passed the request on to the plugin that serves it; its number
// is unique in one run of lightningd. The first component is chosen by the client
// and may be anything, slashes included. No text can make a method of Path fail: of
// a path in another form the parts are empty.
type Path string

// Last returns the process and the method of the last component: who asked,
// and for what. Both are empty if the component has another form.
func (p Path) Last() (process, method string) {
	return parse(string(p[strings.LastIndexByte(string(p), '/')+1:]))
}

// Number returns the number at the end of the last component.
func (p Path) Number() (n uint64, ok bool) {
	n, err := strconv.ParseUint(string(p[strings.LastIndexByte(string(p), '#')+1:]), 10, 63)
	return n, err == nil
}

// FirstComponent returns the first component: what a user, a timer or a
// notification asked for.
func (p Path) FirstComponent() string {
	first, _, _ := strings.Cut(string(p), "/")
	return first
}

// Root returns the part of p that identifies what the user or a timer asked for:
// up to and including the first component of lightningd's own (cln:…#…), which is
// unique in a run. A timer or a notification begins inside a plugin, so its root is
// the first two components, as it is for a path without any component of
// lightningd's. The root is empty if p is too short to have one.
func (p Path) Root() Path {
	var second Path // the first two components
	first := p.FirstComponent()
	startsInPlugin := first == "timer" || strings.HasPrefix(first, "notification-")
	for at, n := 0, 1; at <= len(p); n++ {
		end := len(p)
		if i := strings.IndexByte(string(p[at:]), '/'); i >= 0 {
			end = at + i
		}
		if n == 2 {
			second = p[:end]
		}
		if process, method := parse(string(p[at:end])); process == "cln" && method != "" && !startsInPlugin {
			return p[:end]
		}
		at = end + 1
	}
	return second
}

// Parent returns the path of the request during which p was made: p without its
// last two components, lightningd passing on that request and its server asking
// for p. It is empty if p is not longer than root.
func (p Path) Parent(root Path) Path {
	if len(p) <= len(root) {
		return ""
	}
	rest := p
	for range 2 {
		rest = rest[:max(strings.LastIndexByte(string(rest), '/'), 0)]
	}
	if len(rest) < len(root) {
		return root
	}
	return rest
}

// parse splits process:method#number.
func parse(component string) (process, method string) {
	process, rest, ok := strings.Cut(component, ":")
	at := strings.LastIndexByte(rest, '#')
	if !ok || process == "" || at <= 0 || at == len(rest)-1 {
		return "", ""
	}
	for _, c := range []byte(rest[at+1:]) {
		if c < '0' || c > '9' {
			return "", ""
		}
	}
	return process, rest[:at]
}
