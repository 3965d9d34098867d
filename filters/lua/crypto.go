package lua

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"strings"

	_ "crypto/sha1"   // the hashes that verifySignature knows
	_ "crypto/sha256" // as above
	_ "crypto/sha512" // as above

	glua "github.com/yuin/gopher-lua"
)

// publicKey is the object that importPublicKey gives.
type publicKey struct{ der string }

// importKey is importPublicKey(der, length): the key is checked when it is used.
func (h *host) importKey(l *glua.LState, _ *run) int {
	der := cut(l.CheckString(2), l.CheckInt(3))
	u := h.vm.L.NewUserData()
	u.Value = &publicKey{der}
	u.Metatable = h.keyClass()
	l.Push(u)
	return 1
}

func (h *host) keyClass() *glua.LTable {
	if h.classes["key"] == nil {
		h.class("key", methods{"get": func(l *glua.LState) int {
			k, ok := l.CheckUserData(1).Value.(*publicKey)
			if !ok {
				l.ArgError(1, "public key expected")
			}
			if _, err := x509.ParsePKIXPublicKey([]byte(k.der)); err != nil {
				l.Push(glua.LNil)
				return 1
			}
			return pushText(l, k.der)
		}})
	}
	return h.classes["key"]
}

func cut(s string, n int) string { return s[:max(0, min(n, len(s)))] }

var hashes = map[string]crypto.Hash{
	"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
}

// verify is verifySignature(hash, key, signature, length, data, length): true, or false and
// why.
func (h *host) verify(l *glua.LState, _ *run) int {
	der := ""
	if u, ok := l.Get(3).(*glua.LUserData); ok {
		if k, ok := u.Value.(*publicKey); ok {
			der = k.der
		}
	} else {
		der = l.CheckString(3)
	}
	err := verifySignature(l.CheckString(2), der, cut(l.CheckString(4), l.CheckInt(5)), cut(l.CheckString(6), l.CheckInt(7)))
	l.Push(glua.LBool(err == nil))
	if err != nil {
		return pushText(l, err.Error()) + 1
	}
	l.Push(glua.LNil)
	return 2
}

func verifySignature(hash, der, signature, data string) error {
	kind, ok := hashes[strings.ToLower(hash)]
	if !ok {
		return errors.New(hash + " is not supported.")
	}
	key, err := x509.ParsePKIXPublicKey([]byte(der))
	if err != nil {
		return errors.New("invalid public key")
	}
	sum := kind.New()
	sum.Write([]byte(data))
	digest := sum.Sum(nil)
	switch k := key.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, kind, digest, []byte(signature)) == nil
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest, []byte(signature))
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, []byte(data), []byte(signature))
	default:
		ok = false
	}
	if !ok {
		return errors.New("digest verify failed")
	}
	return nil
}
