package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/applog"
)

// changed builds the defaults with some fields set.
func changed(f func(o *Options)) Options {
	o := defaultOptions("envoy")
	f(&o)
	return o
}

func TestParseEnvoyFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want Options
	}{
		{"none", nil, changed(func(*Options) {})},
		{
			"as Istio's agent starts it",
			[]string{
				"-c", "./etc/istio/proxy/envoy-rev.json", "--drain-time-s", "45", "--drain-strategy", "immediate",
				"--local-address-ip-version", "v6", "--file-flush-interval-msec", "1000", "--disable-hot-restart",
				"--allow-unknown-static-fields", "-l", "warning", "--component-log-level", "misc:error,http:debug",
				"--skip-deprecated-logs", "--enable-core-dump", "--config-yaml", "{node: {id: a}}", "--concurrency", "2",
			},
			changed(func(o *Options) {
				o.ConfigPath, o.ConfigYAML = "./etc/istio/proxy/envoy-rev.json", "{node: {id: a}}"
				o.DrainTime, o.DrainStrategy, o.IPVersion = 45*time.Second, DrainImmediate, "v6"
				o.FileFlushInterval, o.DisableHotRestart, o.AllowUnknownStatic, o.SkipDeprecatedLogs = time.Second, true, true, true
				o.LogLevel, o.Concurrency = applog.LevelWarning, 2
				o.ComponentLevels = []applog.ComponentLevel{{Component: "misc", Level: applog.LevelError}, {Component: "http", Level: applog.LevelDebug}}
				o.Ignored = []string{"--disable-hot-restart", "--enable-core-dump"}
				o.CoreDump, o.ComponentLevelText = true, "misc:error,http:debug"
			}),
		},
		{
			"flag and value in one argument",
			[]string{"--base-id 1", "-c /config/envoy-bootstrap.yaml", "--log-level  info", "--service-cluster my ns"},
			changed(func(o *Options) {
				o.BaseID, o.ConfigPath, o.ServiceCluster = 1, "/config/envoy-bootstrap.yaml", "my ns"
				o.Ignored = []string{"--base-id"}
			}),
		},
		{
			"values with spaces and dashes in arguments of their own",
			[]string{"--config-yaml", "- a b", "--log-format", "-- %v", "--service-node", "--x"},
			changed(func(o *Options) { o.ConfigYAML, o.LogFormat, o.ServiceNode = "- a b", "-- %v", "--x" }),
		},
		{
			"equals signs",
			[]string{"--mode=validate", "--config-yaml={a: \"b=c\"}", "--service-zone="},
			changed(func(o *Options) { o.Mode, o.ConfigYAML = ModeValidate, `{a: "b=c"}` }),
		},
		{
			"the rest is ignored",
			[]string{"--mode", "init_only", "--", "--bogus", "x"},
			changed(func(o *Options) { o.Mode = ModeInitOnly }),
		},
		{
			"repeated tags, lists",
			[]string{"--stats-tag", "a:b", "--stats-tag", "c:d:e", "--disable-extensions", "x, y,", "--cpuset-threads"},
			changed(func(o *Options) {
				o.StatsTags = []StatsTag{{"a", "b"}, {"c", "d:e"}}
				o.DisabledExtensions, o.CPUSetThreads = []string{"x", "y"}, true
			}),
		},
		{"concurrency 0 is 1", []string{"--concurrency", "0"}, changed(func(o *Options) { o.Concurrency = 1 })},
		{
			"old flags",
			[]string{"--bootstrap-version", "3", "--allow-unknown-fields", "--log-format-prefix-with-location", "0"},
			changed(func(o *Options) {
				o.AllowUnknownStatic = true
				o.Ignored = []string{"--bootstrap-version", "--log-format-prefix-with-location"}
			}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseEnvoyFlags("envoy", c.args)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("\n got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestParseEnvoyFlagsRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--bogus", "unknown flag --bogus"},
		{"--bogus 1|-c|f", "unknown flag --bogus"},
		{"-c|f|extra", `unexpected argument "extra": every argument is a flag or the value of one`},
		{"-c|f|-c|g", "flag -c is given twice"},
		{"-c|f|--config-path|g", "flag --config-path is given twice"},
		{"-c", "flag -c needs a value (FILE)"},
		{"--disable-hot-restart=yes", `flag --disable-hot-restart takes no value, got "yes"`},
		{"--mode|fast", `flag --mode: unknown mode "fast" (one of serve, validate, init_only)`},
		{"-l|loud", `flag -l: unknown log level "loud" (one of trace, debug, info, warning, error, critical, off)`},
		{"--component-log-level|http:loud", `flag --component-log-level: component http: unknown log level "loud" (one of trace, debug, info, warning, error, critical, off)`},
		{"--component-log-level|http", `flag --component-log-level: component log level "http" is not of the form name:level`},
		{"--concurrency|two", `flag --concurrency: expected a whole number from 0 to 4294967295, got "two"`},
		{"--concurrency|-1", `flag --concurrency: expected a whole number from 0 to 4294967295, got "-1"`},
		{"--drain-time-s|1m", `flag --drain-time-s: expected a whole number from 0 to 4294967295, got "1m"`},
		{"--drain-strategy|slow", `flag --drain-strategy: unknown strategy "slow" (one of gradual, immediate)`},
		{"--local-address-ip-version|v5", `flag --local-address-ip-version: unknown IP version "v5" (one of v4, v6)`},
		{"--stats-tag|foo", `flag --stats-tag: expected name:value (letters and digits, then anything but dots), got "foo"`},
		{"--stats-tag|a:b.c", `flag --stats-tag: expected name:value (letters and digits, then anything but dots), got "a:b.c"`},
		{"--stats-tag|a:b|--stats-tag|a:c", "flag --stats-tag: tag a is given two values"},
		{"--restart-epoch|1|--use-dynamic-base-id", "--restart-epoch 1 and --use-dynamic-base-id exclude each other"},
		{"--bootstrap-version|2", `flag --bootstrap-version: only version 3 of the API exists, got "2"`},
		{"--log-format|%Q", "flag --log-format: log format has an unknown directive %Q"},
	} {
		_, err := parseEnvoyFlags("envoy", strings.Split(c.args, "|"))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.args, err, c.want)
		}
	}
}

// TestOrderOfFlags is what Envoy 1.40 does: --version and --help act when they are read, whatever
// follows; before them only what cannot be read is an error, not what means nothing.
func TestOrderOfFlags(t *testing.T) {
	for args, want := range map[string]error{
		"--version|--nonsense":                                          errVersion,
		"--version|-l|nonsense":                                         errVersion,
		"-l|nonsense|--version":                                         errVersion,
		"--mode|nonsense|--help":                                        errHelp,
		"--drain-strategy|foo|--version":                                errVersion,
		"--stats-tag|a:b|--stats-tag|a:c|--version":                     errVersion,
		"--help|--version":                                              errHelp,
		"--version|--help":                                              errVersion,
		"--version|-c":                                                  errVersion,
		"--hot-restart-version|--version":                               errVersion,
		"--hot-restart-version|-l|info":                                 errHotRestartVersion,
		"--nonsense|--version":                                          nil,
		"--concurrency|x|--version":                                     nil,
		"--mode|validate|--mode|validate|--version":                     nil,
		"-l|info|extra|--version":                                       nil,
		"--hot-restart-version|--nonsense":                              nil,
		"--hot-restart-version|-l|nonsense":                             nil,
		"--restart-epoch|1|--use-dynamic-base-id|--hot-restart-version": nil,
	} {
		_, err := parseEnvoyFlags("envoy", strings.Split(args, "|"))
		if printed := errors.Is(err, errVersion) || errors.Is(err, errHelp) || errors.Is(err, errHotRestartVersion); err == nil || printed != (want != nil) || want != nil && err != want {
			t.Errorf("%s: %v, want %v", args, err, want)
		}
	}
}

func TestIsEnvoyInvocation(t *testing.T) {
	for line, want := range map[string]bool{
		"-c|f": true, "-c f": true, "--config-path=f": true, "--config-yaml|x": true, "--base-id 1": true, "-l|debug": true,
		"": false, "proxy|-c|f": false, "--version": false, "--help": false, "-h": false, "--bogus": false, "check": false,
	} {
		if got := isEnvoyInvocation(strings.Split(line, "|")); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func FuzzParseEnvoyFlags(f *testing.F) {
	f.Add("--base-id 1|-c /x|--log-level|info")
	f.Add("--|x")
	f.Add("--=|-=|- |--mode=")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseEnvoyFlags("envoy", strings.Split(line, "|"))
		if err == nil && (o.Mode > ModeInitOnly || o.Concurrency < 0) {
			t.Errorf("options %+v", o)
		}
	})
}
