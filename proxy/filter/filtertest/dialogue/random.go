package dialogue

import (
	"encoding/base64"
	"regexp"
	"strings"
)

var (
	flowToken  = regexp.MustCompile(`\b[0-9a-f]{16}\.[A-Za-z0-9+/]{43}=`)
	flowCookie = regexp.MustCompile(`^(set-cookie: [^=;]+)\.[0-9a-f]{16}=`)
	signature  = regexp.MustCompile(`^(set-cookie: [^=;]*HMAC)=[A-Za-z0-9+/]{43}=`)
	expiry     = regexp.MustCompile(`^(set-cookie: [^=;]*Expires)=[0-9]{10,}`)
	sealed     = regexp.MustCompile(`^(set-cookie: [^=;]+)=(gcm\.)?[A-Za-z0-9_-]{43,}`)
	challenge  = regexp.MustCompile(`([?&]code_challenge)=[A-Za-z0-9_-]{43}`)
	stateParam = regexp.MustCompile(`([?&]state)=([A-Za-z0-9_-]+)`)
	flowID     = regexp.MustCompile(`("flow_id":)"[0-9a-f]{16}"`)
)

// withoutRandom replaces what filters make of random numbers and of the time, in cookies and
// in places to go to: tokens against CSRF, what is encrypted or signed. The parameter state
// is shown as what it says.
func withoutRandom(line string) string {
	switch {
	case strings.HasPrefix(line, "set-cookie: "):
		line = flowToken.ReplaceAllString(line, "ID.MAC")
		line = flowCookie.ReplaceAllString(line, "$1.ID=")
		line = signature.ReplaceAllString(line, "$1=MAC")
		line = expiry.ReplaceAllString(line, "$1=SECONDS")
		line = sealed.ReplaceAllString(line, "$1=${2}SEALED")
	case strings.HasPrefix(line, "location: "):
		line = challenge.ReplaceAllString(line, "$1=CHALLENGE")
		line = stateParam.ReplaceAllStringFunc(line, func(p string) string {
			name, value, _ := strings.Cut(p, "=")
			raw, err := base64.RawURLEncoding.DecodeString(value)
			if err != nil {
				return p
			}
			text := flowToken.ReplaceAllString(string(raw), "ID.MAC")
			return name + "=" + flowID.ReplaceAllString(text, `$1"ID"`)
		})
	}
	return line
}
