package main

import (
	"fmt"
	"io"
)

// printEnvoyHelp writes the flags in the order of the table: those with
// function first.
func printEnvoyHelp(w io.Writer, program string) {
	fmt.Fprintf(w, "Usage: %s -c FILE [FLAG...]\n\nRuns the proxy. The flags are Envoy's.\n\n", program)
	for _, f := range envoyFlags() {
		if !f.ignored {
			printFlag(w, f)
		}
	}
	fmt.Fprint(w, "\nAccepted so that launchers need no change, without function here:\n\n")
	for _, f := range envoyFlags() {
		if f.ignored {
			printFlag(w, f)
		}
	}
}

func printFlag(w io.Writer, f envoyFlag) {
	name := "    --" + f.name
	if f.short != "" {
		name = "-" + f.short + ", --" + f.name
	}
	if f.value != "" {
		name += " " + f.value
	}
	fmt.Fprintf(w, "  %-42s %s\n", name, f.help)
}
