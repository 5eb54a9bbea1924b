// Fakechain is a bitcoin backend for a lightningd without a bitcoin node: a
// plugin that stands in for bcli and knows a regtest chain of one block.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// The first block of every regtest chain, as bitcoind serialises it.
const (
	genesisHash   = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
	genesisHeader = "01000000" + // version
		"0000000000000000000000000000000000000000000000000000000000000000" + // previous block
		"3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a" + // merkle root
		"dae5494d" + "ffff7f20" + "02000000" // time, bits, nonce
	genesisCoinbase = "01000000" + "01" + // version, inputs
		"0000000000000000000000000000000000000000000000000000000000000000" + "ffffffff" + // no output spent
		"4d" + "04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e20" +
		"6272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73" + // script, "The Times 03/Jan/2009 …"
		"ffffffff" + "01" + "00f2052a01000000" + // sequence, outputs, 50 BTC
		"43" + "4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac" +
		"00000000" // lock time
	genesisBlock = genesisHeader + "01" + genesisCoinbase
)

type object = map[string]any

// methods are the five that lightningd wants of a bitcoin backend.
var methods = []struct {
	name, usage string
	answer      func(params json.RawMessage) object
}{
	{"getchaininfo", "last_height", func(json.RawMessage) object {
		return object{"chain": "regtest", "headercount": 0, "blockcount": 0, "ibd": false}
	}},
	{"getrawblockbyheight", "height", block},
	{"estimatefees", "", func(json.RawMessage) object {
		return object{"feerate_floor": 1000, "feerates": []object{{"blocks": 2, "feerate": 8000}, {"blocks": 100, "feerate": 2000}}}
	}},
	{"sendrawtransaction", "tx allowhighfees", func(json.RawMessage) object {
		return object{"success": false, "errmsg": "this chain takes no transactions"}
	}},
	{"getutxout", "txid vout", func(json.RawMessage) object { return object{"amount": nil, "script": nil} }},
}

func block(params json.RawMessage) object {
	height := -1
	var named struct{ Height int }
	var listed []int
	if json.Unmarshal(params, &listed) == nil && len(listed) > 0 {
		height = listed[0]
	} else if json.Unmarshal(params, &named) == nil {
		height = named.Height
	}
	if height != 0 {
		return object{"blockhash": nil, "block": nil}
	}
	return object{"blockhash": genesisHash, "block": genesisBlock}
}

func manifest() object {
	var rpcmethods []object
	for _, m := range methods {
		rpcmethods = append(rpcmethods, object{"name": m.name, "usage": m.usage, "description": m.name + " of an empty chain"})
	}
	return object{"options": []object{}, "rpcmethods": rpcmethods, "subscriptions": []string{}, "hooks": []object{}, "dynamic": false, "nonnumericids": true}
}

func answer(method string, params json.RawMessage) object {
	if method == "getmanifest" {
		return manifest()
	}
	for _, m := range methods {
		if m.name == method {
			return m.answer(params)
		}
	}
	return object{} // init
}

// serve answers requests until r ends, as it does when lightningd stops.
func serve(r io.Reader, w io.Writer) error {
	for requests := json.NewDecoder(bufio.NewReader(r)); ; {
		var request struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if err := requests.Decode(&request); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if request.ID == nil {
			continue // a notification
		}
		var message bytes.Buffer
		if err := json.NewEncoder(&message).Encode(object{"jsonrpc": "2.0", "id": request.ID, "result": answer(request.Method, request.Params)}); err != nil {
			return err
		}
		message.WriteByte('\n') // the blank line that ends a message
		if _, err := w.Write(message.Bytes()); err != nil {
			return err
		}
	}
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fakechain:", err)
		os.Exit(1)
	}
}
