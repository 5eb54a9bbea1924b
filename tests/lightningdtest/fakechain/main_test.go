package main

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"
)

func TestGenesisBlockHasItsHash(t *testing.T) {
	header, err := hex.DecodeString(genesisHeader)
	if err != nil {
		t.Fatal(err)
	}
	once := sha256.Sum256(header)
	twice := sha256.Sum256(once[:])
	slices.Reverse(twice[:])
	if got := hex.EncodeToString(twice[:]); got != genesisHash {
		t.Errorf("got %s, want %s", got, genesisHash)
	}
}

func TestGenesisCoinbaseHasTheMerkleRoot(t *testing.T) {
	tx, err := hex.DecodeString(genesisCoinbase)
	if err != nil {
		t.Fatal(err)
	}
	once := sha256.Sum256(tx)
	twice := sha256.Sum256(once[:])
	if got, want := hex.EncodeToString(twice[:]), genesisHeader[72:136]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBlock(t *testing.T) {
	for params, known := range map[string]bool{
		`[0]`: true, `{"height":0}`: true, `[1]`: false, `{"height":1}`: false,
	} {
		if got := block([]byte(params))["block"] != nil; got != known {
			t.Errorf("block(%s): known %v, want %v", params, got, known)
		}
	}
}
