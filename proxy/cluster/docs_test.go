package cluster_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

var rewrite = flag.Bool("rewrite", false, "write the table of statistics into docs/health.md")

// healthRow is one line of that table.
var healthRow = regexp.MustCompile("(?m)^\\| `.*\\n")

// TestHealthDocument: docs/health.md has the statistics of the code, in its words.
func TestHealthDocument(t *testing.T) {
	const file = "../../docs/health.md"
	st := stats.NewStore()
	st.Scope("outlier_detection").Bind(&outlier.Stats{})
	st.Scope("health_check").Bind(&health.Stats{})
	st.Scope("").Bind(&struct {
		Healthy  stats.Gauge `stat:"membership_healthy" help:"Hosts that load balancing takes for well."`
		Degraded stats.Gauge `stat:"membership_degraded" help:"Hosts that it takes for the last choice."`
		Excluded stats.Gauge `stat:"membership_excluded" help:"Hosts that do not count: not checked yet, draining, or taken out by their own answer."`
	}{})
	var rows strings.Builder
	st.Each(func(m stats.Metric) { fmt.Fprintf(&rows, "| `%s` | %s |\n", m.Name, strings.TrimSuffix(m.Help, ".")) })
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, table, ok := strings.Cut(string(text), "## Statistics\n")
	if !ok {
		t.Fatal("there is no section Statistics")
	}
	first := healthRow.FindStringIndex(table)
	if first == nil {
		t.Fatal("there is no table in the section Statistics")
	}
	got := strings.Join(healthRow.FindAllString(table, -1), "")
	switch {
	case got == rows.String():
	case *rewrite:
		table = table[:first[0]] + rows.String() + healthRow.ReplaceAllString(table[first[0]:], "")
		if err := os.WriteFile(file, []byte(head+"## Statistics\n"+table), 0o644); err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("the table is not that of the code (-rewrite makes it so); got\n%swant\n%s", got, rows.String())
	}
}
