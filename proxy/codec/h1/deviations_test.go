package h1

// deviation says why a case of the corpus ends differently here.
type deviation struct {
	status int // what the client gets before the connection is closed; 0: see why
	why    string
}

// Reasons that several cases share.
const (
	lineForm   = "RFC 9112 3: exactly one blank between the parts of a start line; what guesses at others has led to smuggling"
	bareCR     = "RFC 9112 2.2: a bare CR is invalid; Envoy strips it, which turns one field into another for whoever looked before"
	noFold     = "RFC 9112 5.2: folded field lines are refused; the next parser may see another field"
	dataEnd    = "RFC 9112 7.1: chunk data ends in CRLF after exactly its size; Envoy takes any bytes up to the LF"
	extension  = "chunk extensions carry nothing anyone uses; their length is bounded and controls in them are refused (RFC 9112 7.1.1)"
	tooBig     = "a length beyond 2^63-1 is refused at once; Envoy waits for bytes that cannot come"
	oneHost    = "RFC 9112 3.2: more than one Host is refused; Envoy joins them to a host that nobody named"
	userInfo   = "RFC 9110 4.2.4: user info in a target is treated as an error"
	te10       = "RFC 9112 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing"
	upgradeOne = "an upgrade is not for a request with a body: where the body ends and the tunnel begins would be a matter of opinion"
	version    = "RFC 9112 2.3: not a version that HTTP/1 framing is defined for"
	twoHundred = "RFC 9110 9.3.6: Content-Length in a 2xx to CONNECT is removed"
	hop        = "RFC 9110 7.6.1: what Connection names is removed from responses, too"
	aboveCodec = "what differs is done above the codec"
)

// deviations lists the cases in which mecha does not do what Envoy does.
var deviations = map[string]deviation{
	"line-two-spaces":         {400, lineForm},
	"line-two-spaces-version": {400, lineForm},
	"line-tab":                {400, lineForm},
	"line-trailing-space":     {400, lineForm},
	"status-two-spaces":       {0, lineForm},
	"status-2000":             {0, "RFC 9110 15: a status code has three digits"},
	"status-2.0":              {0, version},
	"status-0.9":              {0, version},

	"value-bare-cr":      {400, bareCR},
	"value-bare-cr-last": {400, bareCR},
	"cr-cr-lf":           {400, bareCR},
	"te-bare-cr-inside":  {400, bareCR},
	"status-reason-cr":   {0, bareCR},
	"answer-value-cr":    {0, bareCR},

	"fold-space":          {400, noFold},
	"fold-tab":            {400, noFold},
	"fold-empty":          {400, noFold},
	"fold-twice":          {400, noFold},
	"fold-lf":             {400, noFold},
	"fold-host":           {400, noFold},
	"fold-content-length": {400, noFold},
	"te-folded":           {400, noFold},
	"answer-fold":         {0, noFold},
	"trailer-folded":      {400, noFold},

	"chunk-data-lf-only":    {400, dataEnd},
	"chunk-data-too-long":   {400, dataEnd},
	"chunk-data-too-short":  {400, dataEnd},
	"chunk-ext-quoted-crlf": {400, dataEnd},
	"chunk-ext-control":     {400, extension},
	"chunk-ext-nul":         {400, extension},
	"chunk-ext-20k":         {400, extension},
	"chunk-max-u64":         {400, tooBig},
	"cl-max-u64":            {400, tooBig},
	"cl-overflow-i64":       {400, tooBig},

	"host-twice-different":         {400, oneHost},
	"host-twice-same":              {400, oneHost},
	"host-three":                   {400, oneHost},
	"absolute-form-two-hosts":      {400, oneHost},
	"absolute-form-userinfo":       {400, userInfo},
	"absolute-form-userinfo-host":  {400, userInfo},
	"absolute-form-query-only":     {0, "RFC 9112 3.2.1: an empty path is sent as /; Envoy answers 404"},
	"asterisk-junk":                {400, "RFC 9112 3.2.4: the asterisk form is * alone"},
	"hop-nominates-host":           {400, "refused for what it is; Envoy removes Host and then misses it"},
	"hop-nominates-content-length": {400, "RFC 9110 7.6.1: Connection must not name fields that are not the connection's; Envoy removes the length"},
	"answer-hop-by-hop":            {0, hop},
	"http10-te":                    {400, te10},
	"answer-te-1.0":                {0, te10},
	"http10-expect":                {0, "RFC 9110 15.2: no 1xx for an HTTP/1.0 client"},

	"upgrade-in-list":           {0, "of Connection only what the upgrade needs goes on"},
	"upgrade-with-length":       {0, upgradeOne},
	"upgrade-chunked":           {0, upgradeOne},
	"upgrade-101-unasked":       {0, "RFC 9110 15.2.2: no 101 without an upgrade asked for"},
	"upgrade-websocket-refused": {0, aboveCodec},
	"connect-no-host":           {0, twoHundred},
	"connect-other-host":        {0, twoHundred},

	"answer-chunk-no-crlf":   {0, "how much of a body that turns out bad has gone on already is a matter of packets"},
	"trailer-large":          {431, "the same answer; the head was on its way when the trailers came"},
	"repeated-list":          {0, "repeated fields stay as they came; Envoy joins those it knows to be lists"},
	"envoy-internal-headers": {0, aboveCodec},
}
