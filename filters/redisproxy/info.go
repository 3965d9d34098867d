package redisproxy

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// added reports whether several hosts have the sum of a line of INFO.
func added(name string) bool {
	switch name {
	case "connected_clients", "blocked_clients", "tracking_clients", "clients_in_timeout_table", "used_memory",
		"used_memory_rss", "used_memory_peak", "used_memory_lua", "used_memory_scripts", "used_memory_dataset",
		"total_connections_received", "total_commands_processed", "instantaneous_ops_per_sec",
		"total_net_input_bytes", "total_net_output_bytes", "rejected_connections", "expired_keys",
		"evicted_keys", "keyspace_hits", "keyspace_misses", "pubsub_channels", "pubsub_patterns",
		"rdb_changes_since_last_save", "connected_slaves":
		return true
	}
	return false
}

// mergeInfo makes one INFO of several: the lines are those of the first host, numbers that
// can be added up are, and so are the keys of each database.
func mergeInfo(dst *buffer.Buf, replies []reply) {
	if len(replies) == 1 {
		dst.MoveAll(&replies[0].body)
		return
	}
	totals := map[string]int64{}
	var first []string
	for i := range replies {
		text := payload(replies[i].body.Bytes())
		for line := range strings.SplitSeq(string(text), "\r\n") {
			name, value, found := strings.Cut(line, ":")
			switch {
			case found && databases(name):
				if i > 0 && !has(first, name) {
					first = append(first, line)
				}
				for n, v := range fieldsOf(value) {
					totals[name+"."+n] += v
				}
			case found && added(name):
				n, _ := strconv.ParseInt(value, 10, 64) // what is no number counts as nothing
				totals[name] += n
			}
			if i == 0 {
				first = append(first, line)
			}
		}
	}
	var out bytes.Buffer
	for i, line := range first {
		if i == len(first)-1 && line == "" {
			break
		}
		name, _, _ := strings.Cut(line, ":")
		total, is := totals[name]
		switch {
		case is:
			line = name + ":" + strconv.FormatInt(total, 10)
		case databases(name):
			line = name + ":keys=" + strconv.FormatInt(totals[name+".keys"], 10) + ",expires=" +
				strconv.FormatInt(totals[name+".expires"], 10) + ",avg_ttl=0"
		case name == "redis_mode":
			line = "redis_mode:cluster"
		}
		out.WriteString(line + "\r\n")
	}
	resp.AppendBulk(dst, out.Bytes())
}

// payload returns the contents of a bulk or verbatim string.
func payload(raw []byte) []byte {
	i := bytes.IndexByte(raw, '\n')
	if i < 0 || len(raw) < i+3 {
		return nil
	}
	text := raw[i+1 : len(raw)-2]
	if raw[0] == resp.VerbatimString && len(text) >= 4 {
		text = text[4:] // "txt:"
	}
	return text
}

func databases(name string) bool {
	n, ok := strings.CutPrefix(name, "db")
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

func has(lines []string, name string) bool {
	for _, l := range lines {
		if strings.HasPrefix(l, name+":") {
			return true
		}
	}
	return false
}

// fieldsOf takes "keys=1,expires=0" apart.
func fieldsOf(text string) map[string]int64 {
	m := map[string]int64{}
	for f := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(f, "=")
		n, _ := strconv.ParseInt(value, 10, 64) // what is no number counts as nothing
		m[name] = n
	}
	return m
}
