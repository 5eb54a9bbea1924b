package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"clntrace/collector/voice"
)

func TestTokenStaysWithTheDirectory(t *testing.T) {
	dir := newDir(t)
	token := func(dir string) []byte {
		t.Helper()
		got, err := Token(dir, voice.Plugin)
		if err != nil || len(got) != tokenLen {
			t.Fatalf("%q, %v", got, err)
		}
		return got
	}
	first := token(dir)
	s := opened(t, roomy(dir)) // which locks the directory
	if again := token(dir); !bytes.Equal(again, first) {
		t.Errorf("%q, and then %q", first, again)
	}
	s.Close()
	if other := token(newDir(t)); bytes.Equal(other, first) {
		t.Error("two directories have the same token")
	}
	file := filepath.Join(dir, tokenName)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, first[:3], 0o600); err != nil { // the disk was full
		t.Fatal(err)
	}
	if mended := token(dir); bytes.Equal(mended, first) || !bytes.Equal(mended, token(dir)) {
		t.Errorf("%q of a file that was damaged", mended)
	}
	if _, err := Token(file, voice.Plugin); err == nil {
		t.Error("a file can be a spool")
	}
}
