package jwtauthn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"

	"github.com/go-jose/go-jose/v4"
)

// family is a kind of keys.
type family uint8

const (
	familyRSA family = iota
	familyEC
	familyHMAC
	familyEd25519
)

// families are the algorithms that tokens may be signed with, and the keys that they need:
// a key of another kind is never tried, whatever a token says.
var families = map[string]family{
	"RS256": familyRSA, "RS384": familyRSA, "RS512": familyRSA, "PS256": familyRSA, "PS384": familyRSA, "PS512": familyRSA,
	"ES256": familyEC, "ES384": familyEC, "ES512": familyEC,
	"HS256": familyHMAC, "HS384": familyHMAC, "HS512": familyHMAC,
	"EdDSA": familyEd25519,
}

// key is a public or shared key.
type key struct {
	kid, alg string // "": any
	family   family
	value    any // what go-jose verifies with
}

// keySet is a JSON Web Key Set (RFC 7517). It is immutable.
type keySet struct{ keys []key }

// maxKeys is how many keys of a set are used: each may be tried for a token.
const maxKeys = 1000

// parseKeys reads a key set, or a map of certificates in PEM by their kid. Keys that are
// not understood are left out.
func parseKeys(raw []byte) (*keySet, status) {
	var doc map[string]json.RawMessage
	if json.Unmarshal(raw, &doc) != nil || doc == nil {
		return nil, keysBadJSON
	}
	list, there := doc["keys"]
	if !there {
		return certificates(doc)
	}
	var all []json.RawMessage
	if json.Unmarshal(list, &all) != nil {
		return nil, keysNoArray
	}
	set := &keySet{}
	for _, one := range all {
		var k jose.JSONWebKey
		if len(set.keys) == maxKeys || k.UnmarshalJSON(one) != nil {
			continue
		}
		set.add(k.KeyID, k.Algorithm, k.Key)
	}
	if len(set.keys) == 0 {
		return nil, noValidKeys
	}
	return set, statusOK
}

func certificates(doc map[string]json.RawMessage) (*keySet, status) {
	set := &keySet{}
	for kid, raw := range doc {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return nil, keysMissing
		}
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, keysMissing
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, keysMissing
		}
		set.add(kid, "", c.PublicKey)
	}
	if len(set.keys) == 0 {
		return nil, keysMissing
	}
	return set, statusOK
}

// add adds the public part of a key that some algorithm can use.
func (s *keySet) add(kid, alg string, value any) {
	k := key{kid: kid, alg: alg}
	switch v := value.(type) {
	case *rsa.PublicKey:
		k.family, k.value = familyRSA, v
	case *rsa.PrivateKey:
		k.family, k.value = familyRSA, &v.PublicKey
	case *ecdsa.PublicKey:
		k.family, k.value = familyEC, v
	case *ecdsa.PrivateKey:
		k.family, k.value = familyEC, &v.PublicKey
	case ed25519.PublicKey:
		k.family, k.value = familyEd25519, v
	case ed25519.PrivateKey:
		k.family, k.value = familyEd25519, v.Public()
	case []byte:
		k.family, k.value = familyHMAC, v
	default:
		return
	}
	if alg != "" {
		if f, known := families[alg]; !known || f != k.family {
			return
		}
	}
	s.keys = append(s.keys, k)
}

// verify checks the signature of a token with the keys that its header fits.
func (s *keySet) verify(t *token) status {
	fits := false
	var signed *jose.JSONWebSignature
	for i := range s.keys {
		k := &s.keys[i]
		if t.kid != "" && k.kid != "" && t.kid != k.kid || k.alg != "" && k.alg != t.alg {
			continue
		}
		fits = true
		if families[t.alg] != k.family {
			continue
		}
		if signed == nil {
			var err error
			if signed, err = jose.ParseSignedCompact(t.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(t.alg)}); err != nil {
				return verificationFails
			}
		}
		if _, err := signed.Verify(k.value); err == nil {
			return statusOK
		}
	}
	if !fits {
		return noKeyMatches
	}
	return verificationFails
}
