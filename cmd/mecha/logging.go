package main

import (
	"errors"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/mecha-mesh/mecha/proxy/applog"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// newLog opens the proxy's own log as the command line asks for it.
func newLog(o Options) (*applog.Log, error) {
	log := applog.New(os.Stderr)
	if o.LogPath != "" {
		var err error
		if log, err = applog.Open(o.LogPath); err != nil {
			return nil, err
		}
	}
	pattern := o.LogFormat
	if pattern == "" {
		pattern = applog.DefaultPattern
	}
	f, err := applog.ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	if o.LogFormatEscaped {
		f = f.Escaped()
	}
	log.SetFormat(f)
	log.SetLevel(o.LogLevel)
	log.Configure(o.ComponentLevels)
	return log, nil
}

// applyLogConfig switches log to the format the bootstrap's
// application_log_config asks for, if it does.
func applyLogConfig(log *applog.Log, b *bootstrapv3.Bootstrap, o Options) error {
	f, ok, err := bootstrap.LogFormat(b)
	if err != nil || !ok {
		return err
	}
	if o.LogFormatEscaped {
		f = f.Escaped()
	}
	log.SetFormat(f)
	return nil
}

// checkLogConfig refuses what applyLogConfig could not do.
func checkLogConfig(b *bootstrapv3.Bootstrap, o Options) error {
	_, ok, err := bootstrap.LogFormat(b)
	if err != nil {
		return err
	}
	if ok && o.LogFormat != "" {
		return errors.New("both application_log_config.log_format and --log-format are given: only one of them may be")
	}
	return nil
}

// logStart says at level debug which flags had no function, and at warning what
// the loader noticed.
func logStart(log *applog.Log, o Options, r bootstrap.Report) {
	if len(o.Ignored) > 0 {
		log.Logger("main").Debug("flags without function here were accepted", "flags", o.Ignored)
	}
	config := log.Logger("config")
	for _, w := range r.Warnings {
		config.Warn(w.String())
	}
}
