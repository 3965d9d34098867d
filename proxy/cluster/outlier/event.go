package outlier

import (
	"encoding/json"
	"strconv"
	"time"
)

// Event is an ejection, or its end (envoy.data.cluster.v3.OutlierDetectionEvent).
type Event struct {
	Cluster   string // set by who writes it
	Address   string
	Time      time.Time
	Since     time.Duration // since the last action, negative: there was none
	Back      bool          // the host comes back; what follows is of ejections
	Kind      Kind
	Ejections uint32
	Enforced  bool
	Averages  Averages // of SuccessRate and SuccessRateLocal
	Rate      float64  // of the host, in percent, of the kinds that compare
}

func (d *Detector) log(m *Monitor, k Kind, enforced bool, now time.Time) {
	if d.env.Log == nil {
		return
	}
	e := Event{Address: m.host.Address, Time: now, Since: since(m.back, now), Kind: k, Ejections: m.ejections, Enforced: enforced}
	switch k {
	case SuccessRate, FailurePercentage:
		e.Averages, e.Rate = d.rates[external], m.rates[external].percent
	case SuccessRateLocal, FailurePercentageLocal:
		e.Averages, e.Rate = d.rates[local], m.rates[local].percent
	}
	d.env.Log(&e)
}

func (d *Detector) logBack(m *Monitor, now time.Time) {
	if d.env.Log != nil {
		d.env.Log(&Event{Address: m.host.Address, Time: now, Since: since(m.out, now), Back: true, Ejections: m.ejections})
	}
}

func since(t, now time.Time) time.Duration {
	if t.IsZero() {
		return -1
	}
	return now.Sub(t)
}

// What follows is the JSON of the message, as Envoy writes it: with all fields of plain
// types, in the order of their numbers.
type eventJSON struct {
	Type      string          `json:"type"`
	Timestamp string          `json:"timestamp"`
	Since     *string         `json:"secs_since_last_action,omitempty"`
	Cluster   string          `json:"cluster_name"`
	Address   string          `json:"upstream_url"`
	Action    string          `json:"action"`
	Ejections uint32          `json:"num_ejections"`
	Enforced  bool            `json:"enforced"`
	Rate      *rateJSON       `json:"eject_success_rate_event,omitempty"`
	Row       *struct{}       `json:"eject_consecutive_event,omitempty"`
	Failure   *percentageJSON `json:"eject_failure_percentage_event,omitempty"`
}

type rateJSON struct {
	Host      uint32 `json:"host_success_rate"`
	Average   uint32 `json:"cluster_average_success_rate"`
	Threshold uint32 `json:"cluster_success_rate_ejection_threshold"`
}

type percentageJSON struct {
	Host uint32 `json:"host_success_rate"`
}

// Line returns the event as a line of the event log (outlier_detection.event_log_path).
func (e *Event) Line() []byte {
	j := eventJSON{
		Type: e.Kind.String(), Timestamp: e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), Cluster: e.Cluster, Address: e.Address,
		Action: "EJECT", Ejections: e.Ejections, Enforced: e.Enforced,
	}
	if e.Since >= 0 {
		s := strconv.FormatInt(int64(e.Since/time.Second), 10)
		j.Since = &s
	}
	switch {
	case e.Back:
		j.Type, j.Action = Consecutive5xx.String(), "UNEJECT" // the first of an enumeration that is not set
	case e.Kind == SuccessRate || e.Kind == SuccessRateLocal:
		j.Rate = &rateJSON{whole(e.Rate), whole(e.Averages.Average), whole(e.Averages.Threshold)}
	case e.Kind == FailurePercentage || e.Kind == FailurePercentageLocal:
		j.Failure = &percentageJSON{whole(e.Rate)}
	default:
		j.Row = &struct{}{}
	}
	line, err := json.Marshal(&j)
	if err != nil {
		return nil // plain strings and numbers: it cannot fail
	}
	return append(line, '\n')
}

// whole cuts a percentage off; what is below 0, as a threshold may be, is 0.
func whole(percent float64) uint32 { return uint32(min(100, max(0, percent))) }
