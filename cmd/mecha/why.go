package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// whyCommand is mecha why: it asks a running proxy what it has decided.
func whyCommand() *cobra.Command {
	var o whyOptions
	cmd := &cobra.Command{
		Use:   "why [REQUEST-ID] | why --if METHOD URL",
		Short: "Say what a running proxy decided about a request, and where its time went",
		Long: "Why asks the admin interface of a running proxy about the request with that ID\n" +
			"(x-request-id): which route, rules, hosts and attempts there were, and where the\n" +
			"time went. Without an ID it lists the newest requests. With --if it says what would\n" +
			"be decided about a request, without sending it.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := o.path(args)
			if err != nil {
				return err
			}
			return askAdmin(cmd.Context(), cmd.OutOrStdout(), o.admin, path)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.admin, "admin", adminToAsk(), "address of the admin interface: HOST:PORT, or the path of a unix socket")
	f.IntVar(&o.last, "last", 20, "how many requests to list")
	f.BoolVar(&o.wrong, "wrong", false, "list only those that failed, were refused or took more than one attempt")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.method, "if", "", "a method: say what would become of a request with it for the URL")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "with --if: a header of the request, \"name: value\"; may be repeated")
	f.StringVar(&o.listener, "listener", "", "with --if: the listener that the request comes to")
	f.StringVar(&o.to, "to", "", "with --if: the address that the client connects to")
	f.StringVar(&o.from, "from", "", "with --if: the client's address (127.0.0.1)")
	return cmd
}

type whyOptions struct {
	admin       string
	last        int
	wrong, json bool

	method, listener, to, from string
	headers                    []string
}

// path is what to ask the admin interface.
func (o *whyOptions) path(args []string) (string, error) {
	query, path := url.Values{}, "/why?"
	set := func(key, value string) {
		if value != "" {
			query.Set(key, value)
		}
	}
	if o.json {
		set("format", "json")
	}
	switch {
	case o.method != "":
		if len(args) == 0 {
			return "", errors.New("--if wants a method and a URL, as in --if GET https://shop.example/cart")
		}
		path = "/why/if?"
		set("method", o.method)
		set("url", args[0])
		set("listener", o.listener)
		set("to", o.to)
		set("from", o.from)
		query["header"] = o.headers
	case o.listener+o.to+o.from != "" || len(o.headers) > 0:
		return "", errors.New("--header, --listener, --to and --from belong to --if")
	case len(args) == 1:
		set("id", args[0])
	default:
		set("last", strconv.Itoa(o.last))
		if o.wrong {
			query.Set("wrong", "")
		}
	}
	return path + strings.ReplaceAll(query.Encode(), "+", "%20"), nil
}

// adminToAsk is where the admin interface is unless --admin says something else.
func adminToAsk() string {
	if a := os.Getenv("MECHA_ADMIN"); a != "" {
		return a
	}
	return "127.0.0.1:9901"
}

// askAdmin prints what the admin interface at an address answers.
func askAdmin(ctx context.Context, out io.Writer, address, path string) error {
	network := "tcp"
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@") {
		network = "unix"
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the admin interface at %s (--admin, MECHA_ADMIN): %w", address, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // the code says it, too
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	_, err = io.Copy(out, resp.Body)
	return err
}
