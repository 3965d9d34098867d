package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

// mechaVersion is the release this source becomes.
const mechaVersion = "0.1.0"

// envoyVersion is the Envoy release whose configuration, flags and statistics
// this proxy follows. Control planes gate features on it.
const envoyVersion = "1.40.0"

// buildVersion has the five parts of Envoy's: commit, version, state of the
// tree, build type, TLS library. Launchers split it at the slashes.
func buildVersion() string {
	revision, state := strings.Repeat("0", 40), "Clean"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && s.Value != "":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				state = "Modified"
			}
		}
	}
	return revision + "/" + envoyVersion + "/" + state + "/RELEASE/Go-crypto"
}

// printEnvoyVersion answers "envoy --version": the line launchers look for,
// then what the program really is. The second line has neither slash nor the
// word launchers match.
func printEnvoyVersion(w io.Writer, program string) {
	fmt.Fprintf(w, "\n%s  version: %s\n\n", program, buildVersion())
	printVersion(w)
}

// printVersion answers "mecha version".
func printVersion(w io.Writer) {
	fmt.Fprintf(w, "mecha %s (%s, %s %s, speaks Envoy %s)\n", mechaVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH, envoyVersion)
}
