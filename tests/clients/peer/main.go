// Command peer stands at both ends of a proxy under test: `peer load` is a client that counts every request, and
// `peer serve` an upstream that does what its paths ask for. Both speak HTTP/1.1 and HTTP/2, with and without TLS.
package main

import (
	"fmt"
	"os"
)

func main() {
	run := map[string]func([]string) error{"load": load, "serve": serve}
	if len(os.Args) < 2 || run[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peer load|serve [flags]")
		os.Exit(2)
	}
	if err := run[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
