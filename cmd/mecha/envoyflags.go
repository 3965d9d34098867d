package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/applog"
)

// Asking for one of these ends the process after it was printed.
var (
	errHelp              = errors.New("help requested")
	errVersion           = errors.New("version requested")
	errHotRestartVersion = errors.New("hot restart version requested")
)

// envoyFlag is one flag of Envoy's command line.
type envoyFlag struct {
	name, short string
	// value names the value in the help; empty for a switch.
	value string
	help  string
	// set applies the flag; v is empty for a switch. It runs when all flags have been read:
	// as in Envoy, --version after a value that means nothing still says the version.
	set func(o *Options, v string) error
	// ignored marks flags that are accepted for compatibility only.
	ignored bool
	// repeat allows the flag more than once.
	repeat bool
	// request is what a flag asks for that has something printed; atOnce, as soon as it
	// is read, whatever follows.
	request error
	atOnce  bool
}

// parseEnvoyFlags reads args (without the program's name) as Envoy does.
//
// Envoy's parser lets a flag and its value share one argument, separated by a
// space ("--log-level info"): several control planes start the proxy that way.
// --flag=value, which Envoy refuses, is accepted too.
func parseEnvoyFlags(program string, args []string) (Options, error) {
	o := defaultOptions(program)
	byName := make(map[string]*envoyFlag)
	flags := envoyFlags()
	for i := range flags {
		f := &flags[i]
		byName["--"+f.name] = f
		if f.short != "" {
			byName["-"+f.short] = f
		}
	}
	seen := make(map[string]bool)
	var given []givenFlag
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		name, value, attached := splitFlag(arg)
		f := byName[name]
		switch {
		case f == nil && !strings.HasPrefix(arg, "-"):
			return o, fmt.Errorf("unexpected argument %q: every argument is a flag or the value of one", arg)
		case f == nil:
			return o, fmt.Errorf("unknown flag %s", name)
		case seen[f.name] && !f.repeat:
			return o, fmt.Errorf("flag %s is given twice", name)
		case f.value == "" && attached:
			return o, fmt.Errorf("flag %s takes no value, got %q", name, value)
		case f.value != "" && !attached:
			if len(args) == 0 {
				return o, fmt.Errorf("flag %s needs a value (%s)", name, f.value)
			}
			value, args = args[0], args[1:]
		}
		if f.request != nil && f.atOnce {
			return o, f.request
		}
		if f.value == "N" {
			if _, err := strconv.ParseUint(value, 10, 32); err != nil {
				return o, fmt.Errorf("flag %s: expected a whole number from 0 to %d, got %q", name, uint32(math.MaxUint32), value)
			}
		}
		seen[f.name] = true
		given = append(given, givenFlag{f, name, value})
	}
	return o, o.apply(given, seen)
}

// givenFlag is a flag of a command line.
type givenFlag struct {
	*envoyFlag
	as, with string // its name and value, as they were written
}

// apply applies the flags of a command line that could be read.
func (o *Options) apply(given []givenFlag, seen map[string]bool) error {
	var request error
	for _, g := range given {
		if g.ignored {
			o.Ignored = append(o.Ignored, "--"+g.name)
		}
		if g.request != nil {
			request = g.request
			continue
		}
		if err := g.set(o, g.with); err != nil {
			return fmt.Errorf("flag %s: %w", g.as, err)
		}
	}
	if err := checkTogether(o, seen); err != nil {
		return err
	}
	return request
}

// checkTogether refuses combinations.
func checkTogether(o *Options, seen map[string]bool) error {
	if seen["use-dynamic-base-id"] && o.RestartEpoch > 0 {
		return fmt.Errorf("--restart-epoch %d and --use-dynamic-base-id exclude each other", o.RestartEpoch)
	}
	names := make(map[string]bool, len(o.StatsTags))
	for _, t := range o.StatsTags {
		if names[t.Name] {
			return fmt.Errorf("flag --stats-tag: tag %s is given two values", t.Name)
		}
		names[t.Name] = true
	}
	return nil
}

// splitFlag separates a value that shares the argument with its flag.
func splitFlag(arg string) (name, value string, attached bool) {
	if !strings.HasPrefix(arg, "-") {
		return arg, "", false
	}
	if i := strings.IndexAny(arg, " \t\n="); i > 0 {
		return arg[:i], strings.TrimLeft(arg[i+1:], " \t"), true
	}
	return arg, "", false
}

// isEnvoyInvocation tells from a command line without a subcommand whether it
// is Envoy's: its first argument is one of Envoy's flags. --help and --version
// alone are mecha's own.
func isEnvoyInvocation(args []string) bool {
	if len(args) == 0 || !strings.HasPrefix(args[0], "-") {
		return false
	}
	name, _, _ := splitFlag(args[0])
	for _, f := range envoyFlags() {
		if name == "--"+f.name || f.short != "" && name == "-"+f.short {
			return f.name != "help" && f.name != "version"
		}
	}
	return false
}

// The setters below are shared by several flags.

func setString(field func(*Options) *string) func(*Options, string) error {
	return func(o *Options, v string) error {
		*field(o) = v
		return nil
	}
}

func setTrue(field func(*Options) *bool) func(*Options, string) error {
	return func(o *Options, _ string) error {
		*field(o) = true
		return nil
	}
}

// setUint reads 0 to 4294967295.
func setUint(apply func(*Options, uint32)) func(*Options, string) error {
	return func(o *Options, v string) error {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return fmt.Errorf("expected a whole number from 0 to %d, got %q", uint32(math.MaxUint32), v)
		}
		apply(o, uint32(n))
		return nil
	}
}

func setDuration(unit time.Duration, field func(*Options) *time.Duration) func(*Options, string) error {
	return setUint(func(o *Options, n uint32) { *field(o) = time.Duration(n) * unit })
}

func nothing(*Options, string) error { return nil }

func setMode(o *Options, v string) error {
	for _, m := range []Mode{ModeServe, ModeValidate, ModeInitOnly} {
		if v == m.String() {
			o.Mode = m
			return nil
		}
	}
	return fmt.Errorf("unknown mode %q (one of serve, validate, init_only)", v)
}

func setDrainStrategy(o *Options, v string) error {
	for _, s := range []DrainStrategy{DrainGradual, DrainImmediate} {
		if v == s.String() {
			o.DrainStrategy = s
			return nil
		}
	}
	return fmt.Errorf("unknown strategy %q (one of gradual, immediate)", v)
}

func setIPVersion(o *Options, v string) error {
	if v != "v4" && v != "v6" {
		return fmt.Errorf("unknown IP version %q (one of v4, v6)", v)
	}
	o.IPVersion = v
	return nil
}

func setLogLevel(o *Options, v string) (err error) {
	o.LogLevel, err = applog.ParseLevel(v)
	return err
}

func setComponentLevels(o *Options, v string) (err error) {
	o.ComponentLevelText = v
	o.ComponentLevels, err = applog.ParseComponentLevels(v)
	return err
}

func setLogFormat(o *Options, v string) error {
	if _, err := applog.ParsePattern(v); err != nil {
		return err
	}
	o.LogFormat = v
	return nil
}

func setConcurrency(o *Options, v string) error {
	return setUint(func(o *Options, n uint32) { o.Concurrency = int(max(n, 1)) })(o, v)
}

// addStatsTag reads name:value; names are letters, digits and underscores,
// values anything but dots.
func addStatsTag(o *Options, v string) error {
	name, value, ok := strings.Cut(v, ":")
	valid := ok && name != "" && value != "" && !strings.Contains(value, ".")
	for _, c := range name {
		valid = valid && (c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	if !valid {
		return fmt.Errorf("expected name:value (letters and digits, then anything but dots), got %q", v)
	}
	o.StatsTags = append(o.StatsTags, StatsTag{Name: name, Value: value})
	return nil
}

func addDisabled(o *Options, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		if name = strings.TrimSpace(name); name != "" {
			o.DisabledExtensions = append(o.DisabledExtensions, name)
		}
	}
	return nil
}

// setBootstrapVersion accepts 3, the only version there is.
func setBootstrapVersion(_ *Options, v string) error {
	if v != "3" {
		return fmt.Errorf("only version 3 of the API exists, got %q", v)
	}
	return nil
}
