package oauth2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// marker precedes what is sealed with AES-256-GCM. What has none is AES-256-CBC, or was
// never sealed.
const marker = "gcm."

// gcmNonce is the size of what precedes the ciphertext of GCM.
const gcmNonce = 12

// Why something does not open.
var (
	errSealed   = errors.New("Invalid encrypted data")        //nolint:staticcheck // Envoy's words
	errDecrypt  = errors.New("failed to decrypt data")        // neither padding nor contents
	errFinalize = errors.New("failed to finalize decryption") // wrong key, or tampered with
	errNoPermit = errors.New("ciphertext has no algorithm marker and legacy CBC decryption is disabled")
)

// sealer encrypts and decrypts what cookies hold, as Envoy does, so that a session may
// move between the two. Its key is that of HMACs, hashed (SHA-256).
type sealer struct {
	key [sha256.Size]byte
	gcm bool // seal with GCM
	cbc bool // open what CBC has sealed
}

// seal encrypts text for a cookie.
func (z *sealer) seal(text string) string {
	block, err := aes.NewCipher(z.key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	if z.gcm {
		g, err := cipher.NewGCM(block)
		if err != nil {
			panic(err) // the block has 16 bytes
		}
		out := make([]byte, gcmNonce, gcmNonce+len(text)+g.Overhead())
		_, _ = rand.Read(out) // never fails
		return marker + base64.RawURLEncoding.EncodeToString(g.Seal(out, out, []byte(text), nil))
	}
	pad := aes.BlockSize - len(text)%aes.BlockSize // PKCS #7
	out := make([]byte, aes.BlockSize+len(text)+pad)
	iv, body := out[:aes.BlockSize], out[aes.BlockSize:]
	_, _ = rand.Read(iv) // never fails
	for i := copy(body, text); i < len(body); i++ {
		body[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(body, body)
	return base64.RawURLEncoding.EncodeToString(out)
}

// open decrypts what seal, here or in Envoy, has made. legacy tells that it was CBC.
func (z *sealer) open(sealed string) (text string, legacy bool, err error) {
	rest, marked := strings.CutPrefix(sealed, marker)
	if !marked && !z.cbc {
		return "", false, errNoPermit
	}
	raw, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil {
		return "", false, errSealed
	}
	block, err := aes.NewCipher(z.key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	if marked {
		g, err := cipher.NewGCM(block)
		if err != nil {
			panic(err) // the block has 16 bytes
		}
		if len(raw) < gcmNonce+g.Overhead() {
			return "", false, errSealed
		}
		out, err := g.Open(nil, raw[:gcmNonce], raw[gcmNonce:], nil)
		if err != nil {
			return "", false, errFinalize
		}
		return string(out), false, nil
	}
	text, err = openCBC(block, raw)
	return text, err == nil, err
}

func openCBC(block cipher.Block, raw []byte) (string, error) {
	if len(raw) <= aes.BlockSize {
		return "", errSealed
	}
	iv, body := raw[:aes.BlockSize], raw[aes.BlockSize:]
	if len(body)%aes.BlockSize != 0 {
		return "", errFinalize
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(body, body)
	pad := int(body[len(body)-1])
	if pad == 0 || pad > aes.BlockSize {
		return "", errDecrypt
	}
	for _, c := range body[len(body)-pad:] {
		if int(c) != pad {
			return "", errDecrypt
		}
	}
	return string(body[:len(body)-pad]), nil
}

// sign is the HMAC with SHA-256 of a text.
func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// signature is sign in base64.
func signature(key []byte, text string) string {
	return base64.StdEncoding.EncodeToString(sign(key, text))
}

// signed tells whether sig is the signature of a text, in the form of today or that of old
// (base64 of hexadecimal digits).
func signed(key []byte, text, sig string) bool {
	sum := sign(key, text)
	old := base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum)))
	return same(base64.StdEncoding.EncodeToString(sum), sig) || same(old, sig)
}

// same compares in a time that tells nothing of where the texts differ.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// random is n bytes that nobody can guess.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// encode is base64 for URLs, without padding.
func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// headerValue tells whether a text can be the value of a header field.
func headerValue(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
