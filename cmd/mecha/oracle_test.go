//go:build oracle

package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestOracleCommandLine gives the same command lines to Envoy. Whether one is
// refused must agree; on success the output of --mode validate is the same.
func TestOracleCommandLine(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	file(t, "ok.yaml", oneListener)
	lines := []string{
		"--concurrency|2", "--concurrency|0", "--concurrency|x", "-l|trace", "-l|loud", "--log-level|warn", "--log-level|off",
		"--component-log-level|http:debug,upstream:trace", "--component-log-level|http:loud", "--component-log-level|http",
		"--drain-time-s|45", "--drain-time-s|1m", "--drain-strategy|immediate", "--drain-strategy|slow",
		"--local-address-ip-version|v6", "--local-address-ip-version|v5", "--file-flush-interval-msec|1000", "--file-flush-min-size-kb|1",
		"--service-cluster|a", "--service-node|b", "--service-zone|c", "--service-node|--x", "--service-cluster a b",
		"--base-id 1", "--base-id|1", "--base-id-path|/dev/null", "--use-dynamic-base-id", "--restart-epoch|1|--use-dynamic-base-id",
		"--skip-hot-restart-on-no-parent", "--skip-hot-restart-parent-stats", "--parent-shutdown-time-s|5",
		"--socket-path|@x", "--socket-mode|600", "--enable-mutex-tracing", "--enable-core-dump", "--cpuset-threads",
		"--allow-unknown-fields", "--allow-unknown-static-fields", "--reject-unknown-dynamic-fields", "--ignore-unknown-dynamic-fields",
		"--skip-deprecated-logs", "--log-stacktrace-single-entry", "--enable-fine-grain-logging", "--log-format-escaped",
		"--log-format|[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v", "--log-path|/dev/null", "--admin-address-path|/dev/null",
		"--stats-tag|a:b", "--stats-tag|a:b|--stats-tag|c:d", "--stats-tag|a", "--disable-extensions|x,y",
		"--config-yaml|{node: {id: a}}", "--config-yaml|{node: {id: 5}}", "--config-yaml|- a b", "--config-yaml|a: [",
		"--bogus", "extra", "--|extra", "-c|ok.yaml", "--service-node|a|--service-node|b", "--mode|serve", "--disable-hot-restart|x",
		"--log-level", "--hot-restart-version", "--version", "--help",
	}
	for _, line := range lines {
		args := append([]string{"--disable-hot-restart", "--mode", "validate", "-c", "ok.yaml"}, strings.Split(line, "|")...)
		cmd := exec.Command(envoy, args...)
		out, err := cmd.Output()
		code, stdout, stderr := runMecha(t, program{}, slices.Concat([]string{"envoy"}, args)...)
		if (code == 0) != (err == nil) {
			t.Errorf("%s: exit code %d (%s), Envoy: %v", line, code, strings.TrimSpace(stderr), err)
		}
		if strings.HasPrefix(string(out), "configuration") && string(out) != stdout {
			t.Errorf("%s: prints %q, Envoy %q", line, stdout, out)
		}
	}
}
