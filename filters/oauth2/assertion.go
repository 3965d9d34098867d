package oauth2

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// assertionSpec is private_key_jwt_config.
type assertionSpec struct {
	algorithm jose.SignatureAlgorithm
	lifetime  time.Duration
	audience  string
}

// errKey hides what a key looks like.
var errKey = errors.New("oauth2: the private key is not one of the signing algorithm")

// assertion is a JSON Web Token that says who asks (RFC 7523 section 3), signed with the
// secret.
func (f *Filter) assertion() (string, error) {
	key, err := signingKey(f.secret)
	if err != nil {
		return "", err
	}
	o := (&jose.SignerOptions{}).WithType("JWT")
	if id := f.keyID; id != "" {
		o = o.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: f.set.Assertion.algorithm, Key: key}, o)
	if err != nil {
		return "", errKey
	}
	now := time.Now().Unix()
	claims, err := json.Marshal(map[string]any{
		"iss": f.set.ClientID, "sub": f.set.ClientID, "aud": f.set.Assertion.audience,
		"iat": now, "nbf": now, "exp": now + int64(f.set.Assertion.lifetime/time.Second), "jti": hex.EncodeToString(random(16)),
	})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", errKey
	}
	return signed.CompactSerialize()
}

// signingKey reads a private key in PEM: PKCS #8, PKCS #1, or SEC 1.
func signingKey(text []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, errKey
	}
	if k, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
		switch k := k.(type) {
		case *rsa.PrivateKey:
			return k, nil
		case *ecdsa.PrivateKey:
			return k, nil
		}
		return nil, errKey
	}
	if k, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
		return k, nil
	}
	return nil, errKey
}
