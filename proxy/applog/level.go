package applog

import (
	"fmt"
	"log/slog"
	"strings"
)

// Envoy's levels on slog's scale. Trace and Critical are beyond slog's own
// names; Off is above everything a call site can use.
const (
	LevelTrace    slog.Level = -8
	LevelDebug               = slog.LevelDebug
	LevelInfo                = slog.LevelInfo
	LevelWarning             = slog.LevelWarn
	LevelError               = slog.LevelError
	LevelCritical slog.Level = 12
	LevelOff      slog.Level = 127
)

// ParseLevel reads a level as the command line and /logging spell it: trace,
// debug, info, warning (or warn), error, critical, off, in any letter case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "trace":
		return LevelTrace, nil
	case "debug":
		return LevelDebug, nil
	case "info":
		return LevelInfo, nil
	case "warning", "warn":
		return LevelWarning, nil
	case "error", "err":
		return LevelError, nil
	case "critical":
		return LevelCritical, nil
	case "off":
		return LevelOff, nil
	}
	return 0, fmt.Errorf("unknown log level %q (one of trace, debug, info, warning, error, critical, off)", s)
}

// LevelName is Envoy's name of the level l falls into.
func LevelName(l slog.Level) string {
	switch {
	case l >= LevelOff:
		return "off"
	case l >= LevelCritical:
		return "critical"
	case l >= LevelError:
		return "error"
	case l >= LevelWarning:
		return "warning"
	case l >= LevelInfo:
		return "info"
	case l >= LevelDebug:
		return "debug"
	}
	return "trace"
}

// ComponentLevel is one entry of --component-log-level or of the admin
// endpoint's list.
type ComponentLevel struct {
	Component string
	Level     slog.Level
}

// ParseComponentLevels reads name:level,name:level. An empty string is an empty
// list.
func ParseComponentLevels(s string) ([]ComponentLevel, error) {
	var list []ComponentLevel
	for part := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, level, ok := strings.Cut(part, ":")
		name, level = strings.TrimSpace(name), strings.TrimSpace(level)
		if !ok || name == "" || level == "" {
			return nil, fmt.Errorf("component log level %q is not of the form name:level", part)
		}
		l, err := ParseLevel(level)
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", name, err)
		}
		list = append(list, ComponentLevel{Component: name, Level: l})
	}
	return list, nil
}
