;; Does what the first letter of the path says.
(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $bytes (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $put (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $ask (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_set_property" (func $remember (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 8192))
  (global $cluster (mut i32) (i32.const 0))
  (global $length (mut i32) (i32.const 0))
  (global $waiting (mut i32) (i32.const 0))
  (global $letter (mut i32) (i32.const 0))
  (global $metric (mut i32) (i32.const 0))
  (data (i32.const 0) ":path")
  (data (i32.const 16) "x-probe")
  (data (i32.const 32) "why not")
  (data (i32.const 48) "no\n")
  (data (i32.const 64) "\01\00\00\00\03\00\00\00\01\00\00\00x-a\00b\00")
  (data (i32.const 96) "request\00method")
  (data (i32.const 128) "plugin_name")
  (data (i32.const 160) "probes")
  (data (i32.const 192) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\04\00\00\00\0a\00\00\00\03\00\00\00:method\00POST\00:path\00/ask\00:authority\00who\00")
  (data (i32.const 320) ":status")
  (func (export "proxy_abi_version_0_2_1"))
  (func $malloc (export "malloc") (param $n i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $n))))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (drop (call $define (i32.const 0) (i32.const 160) (i32.const 6) (i32.const 512)))
    (global.set $metric (i32.load (i32.const 512)))
    (i32.const 1))
  (func (export "proxy_on_configure") (param i32 $n i32) (result i32)
    (if (local.get $n)
      (then
        (drop (call $bytes (i32.const 7) (i32.const 0) (local.get $n) (i32.const 512) (i32.const 516)))
        (global.set $cluster (i32.load (i32.const 512)))
        (global.set $length (i32.load (i32.const 516)))
        (if (i32.eq (i32.load8_u (global.get $cluster)) (i32.const 33)) ;; !
          (then (return (i32.const 0))))))
    (i32.const 1))
  (func (export "proxy_on_context_create") (param i32 i32))
  ;; adds what is at 512, of which the size is at 516, to a map
  (func $note (param $map i32)
    (drop (call $add (local.get $map) (i32.const 16) (i32.const 7) (i32.load (i32.const 512)) (i32.load (i32.const 516)))))
  (func $deep (param $n i32) (result i32)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get $n) (i32.const 1)))))
  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    (drop (call $increment (global.get $metric) (i64.const 1)))
    (drop (call $get (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 516)))
    (global.set $letter (i32.load8_u offset=1 (i32.load (i32.const 512))))
    (if (i32.eq (global.get $letter) (i32.const 116)) (then (unreachable))) ;; t: trap
    (if (i32.eq (global.get $letter) (i32.const 108)) (then (loop $l (br $l)))) ;; l: loop
    (if (i32.eq (global.get $letter) (i32.const 100)) (then (drop (call $deep (i32.const 0))))) ;; d: deep
    (if (i32.eq (global.get $letter) (i32.const 98)) ;; b: bomb
      (then (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)))
    (if (i32.eq (global.get $letter) (i32.const 103)) ;; g: grows, for good
      (then (drop (memory.grow (i32.const 900)))))
    (if (i32.eq (global.get $letter) (i32.const 114)) ;; r: reply
      (then
        (drop (call $reply (i32.const 403) (i32.const 32) (i32.const 7) (i32.const 48) (i32.const 3) (i32.const 64) (i32.const 18) (i32.const -1)))
        (return (i32.const 1))))
    (if (i32.eq (global.get $letter) (i32.const 112)) ;; p: properties
      (then
        (if (i32.eqz (call $property (i32.const 96) (i32.const 14) (i32.const 512) (i32.const 516))) (then (call $note (i32.const 0))))
        (if (i32.eqz (call $property (i32.const 128) (i32.const 11) (i32.const 512) (i32.const 516))) (then (call $note (i32.const 0))))
        (drop (call $remember (i32.const 160) (i32.const 6) (i32.const 48) (i32.const 2)))
        (if (i32.eqz (call $property (i32.const 160) (i32.const 6) (i32.const 512) (i32.const 516))) (then (call $note (i32.const 0))))))
    (if (i32.eq (global.get $letter) (i32.const 115)) ;; s: shared data: the path of the request before
      (then
        (if (i32.eqz (call $shared (i32.const 160) (i32.const 6) (i32.const 512) (i32.const 516) (i32.const 520))) (then (call $note (i32.const 0))))
        (drop (call $get (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 516)))
        (drop (call $share (i32.const 160) (i32.const 6) (i32.load (i32.const 512)) (i32.load (i32.const 516)) (i32.const 0)))))
    (if (i32.eq (global.get $letter) (i32.const 104)) ;; h: asks somebody
      (then
        (global.set $waiting (local.get $context))
        (if (i32.eqz (call $ask (global.get $cluster) (global.get $length) (i32.const 192) (i32.const 67) (i32.const 160) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 5000) (i32.const 512)))
          (then (return (i32.const 1))))))
    (i32.const 0))
  (func (export "proxy_on_http_call_response") (param i32 i32 $fields i32) (param i32 i32)
    (if (local.get $fields)
      (then (drop (call $get (i32.const 6) (i32.const 320) (i32.const 7) (i32.const 512) (i32.const 516)))
        (drop (call $effective (global.get $waiting)))
        (call $note (i32.const 0))
        (drop (call $bytes (i32.const 4) (i32.const 0) (i32.const 100) (i32.const 512) (i32.const 516)))
        (call $note (i32.const 0))))
    (drop (call $effective (global.get $waiting)))
    (drop (call $continue (i32.const 0))))
  (func (export "proxy_on_request_body") (param i32 i32 $end i32) (result i32)
    (if (i32.eq (global.get $letter) (i32.const 119)) ;; w: waits for all of the body, and writes before it
      (then
        (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
        (drop (call $put (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 160) (i32.const 6)))))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (if (i32.eq (global.get $letter) (i32.const 120)) (then (unreachable))) ;; x: fails later
    (i32.const 0))
)
