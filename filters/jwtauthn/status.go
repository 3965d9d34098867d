package jwtauthn

// status is what is wrong with a token or with the keys to verify it. The numbers and
// texts are Envoy's: clients see the texts, logs the details made of them.
type status uint8

const (
	statusOK status = iota
	missing
	notYetValid
	expired
	badFormat
	headerBadBase64
	headerBadJSON
	headerBadAlg
	headerUnknownAlg
	headerBadKid
	payloadBadBase64
	badEd25519Length
	payloadBadJSON
	issNotString
	subNotString
	iatNotInteger
	iatOutOfRange
	nbfNotInteger
	nbfOutOfRange
	expNotInteger
	expOutOfRange
	jtiNotString
	audNotString
	signatureBadBase64
	unknownIssuer
	audienceNotAllowed
	verificationFails
	multipleTokens
	keysBadJSON
	keysMissing
	keysNoArray
	noValidKeys
	noKeyMatches
	fetchFailed
)

var statusTexts = [...]string{
	"OK",
	"Jwt is missing",
	"Jwt not yet valid",
	"Jwt is expired",
	"Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
	"Jwt header is an invalid Base64url encoded",
	"Jwt header is an invalid JSON",
	"Jwt header [alg] field is required and must be a string",
	"Jwt header [alg] is not supported",
	"Jwt header [kid] field is not a string",
	"Jwt payload is an invalid Base64url encoded",
	"Jwt ED25519 signature is wrong length",
	"Jwt payload is an invalid JSON",
	"Jwt payload [iss] field is not a string",
	"Jwt payload [sub] field is not a string",
	"Jwt payload [iat] field is not an integer",
	"Jwt payload [iat] field is not a positive 64 bit integer",
	"Jwt payload [nbf] field is not an integer",
	"Jwt payload [nbf] field is not a positive 64 bit integer",
	"Jwt payload [exp] field is not an integer",
	"Jwt payload [exp] field is not a positive 64 bit integer",
	"Jwt payload [jti] field is not a string",
	"Jwt payload [aud] field is not a string or string list",
	"Jwt signature is an invalid Base64url encoded",
	"Jwt issuer is not configured",
	"Audiences in Jwt are not allowed",
	"Jwt verification fails",
	"Found multiple Jwt tokens",
	"Jwks is an invalid JSON",
	"Jwks does not have [keys] field",
	"[keys] in Jwks is not an array",
	"Jwks doesn't have any valid public key",
	"Jwks doesn't have key to match kid or alg from Jwt",
	"Jwks remote fetch is failed",
}

func (s status) String() string { return statusTexts[s] }

// code is what a client is answered.
func (s status) code() int {
	if s == audienceNotAllowed {
		return 403
	}
	return 401
}
