package spool

import (
	"crypto/rand"
	"fmt"

	"clntrace/collector/voice"
)

const (
	tokenName = "token"
	tokenLen  = 26 // that of rand.Text
)

// Token returns a random text that is the same for as long as the directory stands. It
// makes both if there are none. Another clntrace may use the directory meanwhile. An
// error says why there is no such text, and what to do.
func Token(dir string, v voice.Voice) ([]byte, error) {
	d, err := enter(dir, v)
	if err != nil {
		return nil, explain(dir, err, v)
	}
	defer func() { _ = d.root.Close() }()
	if token, err := d.token(); err == nil {
		return token, nil
	}
	own := rand.Text()
	if err := d.overwrite(tokenName, []byte(own)); err != nil {
		return nil, explain(dir, err, v)
	}
	return []byte(own), nil
}

// token reads what an earlier run has written.
func (d *directory) token() ([]byte, error) {
	token, err := d.read(tokenName)
	if err == nil && len(token) != tokenLen {
		err = fmt.Errorf("reading %s: not a file of ours", tokenName)
	}
	return token, err
}
