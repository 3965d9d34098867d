package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mecha-mesh/mecha/xds/control"
)

const folderHelp = `The folder holds .yaml, .yml and .json files, each with any mix of resources,
several documents in a file included:

  name: web                     # recognised by its fields: a Cluster
  type: STATIC
  load_assignment: {...}
  ---
  "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: ingress
  ...
  ---
  resources:                    # or a list
  - "@type": ...

Listener, RouteConfiguration, Cluster, ClusterLoadAssignment, Secret, Runtime,
TypedExtensionConfig, ScopedRouteConfiguration and VirtualHost are known. The
static_resources of an Envoy bootstrap can be given as they are.

A subfolder is for the nodes whose id, or whose cluster, is its name: its resources
are added to the folder's own, and replace those of the same name.`

func newServe(log io.Writer) *cobra.Command {
	var o control.Options
	var level, format string
	var identity identityFlags
	cmd := &cobra.Command{
		Use:   "serve --dir DIR [--listen ADDR]...",
		Short: "Serve a folder of Envoy resources over xDS, and again when it changes",
		Long: `serve reads a folder of Envoy resources and serves them over ADS (state of the
world and delta) and over the service of each type. A change of the folder reaches
connected proxies at once: new clusters first, then routes to them, and what is gone
last. What changed is logged in words.

A file with a mistake is reported with its line and the path into it, and what it
last held stays served. SIGHUP reads the folder again; SIGTERM ends.

With --identity, workloads are given certificates of their own (the secret "default")
and whom to trust ("ROOTCA") over SDS, on unix sockets alone: see docs/identity.md.

` + folderHelp,
		Example: `  mecha-control serve --dir ./config
  mecha-control serve --dir ./config --listen 0.0.0.0:18000 --listen unix:/run/mecha/xds.sock
  mecha-control serve --dir ./config --identity ./ca --workload-socket shop/orders=unix:/run/orders/socket`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(log, level, format)
			if err != nil {
				return err
			}
			o.Logger = logger
			if o.Identity, err = identity.options(); err != nil {
				return err
			}
			return serve(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder of resource files (required)")
	f.StringArrayVar(&o.Listen, "listen", []string{"127.0.0.1:18000"}, "address to serve on: host:port, unix:PATH or unix:@abstract; may be repeated")
	f.BoolVar(&o.SkipBroken, "skip-broken", false, "start without the files that are broken, rather than not at all")
	f.DurationVar(&o.Debounce, "debounce", 200*time.Millisecond, "how long the folder must be quiet before it is read again")
	f.DurationVar(&o.Grace, "grace", 2*time.Second, "how long a removed cluster stays after the routes to it are gone")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "text or json")
	identity.add(cmd)
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func serve(ctx context.Context, o control.Options) error {
	s, err := control.New(o)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-hup:
				s.Reload()
			case <-done:
				return
			}
		}
	}()
	return s.Run(ctx)
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}
