;; Calls foreign functions, as the second letter of the path says, and notes in x-probe what they answer.
(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $remember (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 8192))
  (global $letter (mut i32) (i32.const 0))
  (data (i32.const 0) ":path")
  (data (i32.const 16) "x-probe")
  (data (i32.const 1024) "compress")
  (data (i32.const 1056) "uncompress")
  (data (i32.const 1088) "set_envoy_filter_state")
  (data (i32.const 1120) "clear_route_cache")
  (data (i32.const 1152) "declare_property")
  (data (i32.const 1184) "expr_create")
  (data (i32.const 1216) "expr_evaluate")
  (data (i32.const 1248) "expr_delete")
  (data (i32.const 1280) "nope")
  (data (i32.const 1312) "probes probes probes")
  (data (i32.const 1376) "\0a\17envoy.tcp_proxy.cluster\12\01c")
  (data (i32.const 1440) "\0a\0cnobody.knows\12\01c")
  (data (i32.const 1504) "\0a\1benvoy.upstream.dynamic_port\12\01x")
  (data (i32.const 1568) "\0a\04mine\10\01\18\01")
  (data (i32.const 1632) "request.method")
  (data (i32.const 1696) "1 +")
  (data (i32.const 1760) "\ff")
  (data (i32.const 1824) "request.headers.size() > 2")
  (data (i32.const 1888) "request.path")
  (data (i32.const 2048) "\0a\04kept\10\01\18\01")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $foreign (i32.const 1152) (i32.const 16) (i32.const 2048) (i32.const 10) (i32.const 512) (i32.const 516)))
    (i32.const 1))
  (func (export "malloc") (param $n i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $n))))
  (func (export "proxy_on_context_create") (param i32 i32))
  ;; adds what is at 512, of which the size is at 516
  (func $note
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 7) (i32.load (i32.const 512)) (i32.load (i32.const 516)))))
  ;; adds a number below 100
  (func $digits (param $n i32)
    (i32.store8 (i32.const 600) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 10))))
    (i32.store8 (i32.const 601) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 600) (i32.const 2))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 516)))
    (global.set $letter (i32.load8_u offset=1 (i32.load (i32.const 512))))
    (if (i32.eq (global.get $letter) (i32.const 99)) ;; c: compresses
      (then
        (call $digits (call $foreign (i32.const 1024) (i32.const 8) (i32.const 1312) (i32.const 20) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1056) (i32.const 10) (i32.load (i32.const 512)) (i32.load (i32.const 516)) (i32.const 512) (i32.const 516)))
        (call $note)
        (call $digits (call $foreign (i32.const 1056) (i32.const 10) (i32.const 1760) (i32.const 1) (i32.const 512) (i32.const 516)))))
    (if (i32.eq (global.get $letter) (i32.const 102)) ;; f: filter state
      (then
        (call $digits (call $foreign (i32.const 1088) (i32.const 22) (i32.const 1376) (i32.const 28) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1088) (i32.const 22) (i32.const 1440) (i32.const 17) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1088) (i32.const 22) (i32.const 1504) (i32.const 32) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1088) (i32.const 22) (i32.const 1760) (i32.const 1) (i32.const 512) (i32.const 516)))))
    (if (i32.eq (global.get $letter) (i32.const 100)) ;; d: declares a property that is set once
      (then
        (call $digits (call $foreign (i32.const 1152) (i32.const 16) (i32.const 1568) (i32.const 10) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1152) (i32.const 16) (i32.const 1568) (i32.const 10) (i32.const 512) (i32.const 516)))
        (call $digits (call $remember (i32.const 1570) (i32.const 4) (i32.const 0) (i32.const 5)))
        (call $digits (call $remember (i32.const 1570) (i32.const 4) (i32.const 0) (i32.const 5)))
        (call $digits (call $remember (i32.const 2050) (i32.const 4) (i32.const 0) (i32.const 5)))
        (call $digits (call $remember (i32.const 2050) (i32.const 4) (i32.const 0) (i32.const 5)))))
    (if (i32.eq (global.get $letter) (i32.const 120)) ;; x: expressions
      (then
        (call $digits (call $foreign (i32.const 1184) (i32.const 11) (i32.const 1632) (i32.const 14) (i32.const 512) (i32.const 516)))
        (i32.store (i32.const 700) (i32.load (i32.load (i32.const 512))))
        (call $digits (call $foreign (i32.const 1216) (i32.const 13) (i32.const 700) (i32.const 4) (i32.const 512) (i32.const 516)))
        (call $note)
        (call $digits (call $foreign (i32.const 1248) (i32.const 11) (i32.const 700) (i32.const 4) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1216) (i32.const 13) (i32.const 700) (i32.const 4) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1216) (i32.const 13) (i32.const 1632) (i32.const 14) (i32.const 512) (i32.const 516)))
        (call $digits (call $foreign (i32.const 1184) (i32.const 11) (i32.const 1696) (i32.const 3) (i32.const 512) (i32.const 516)))))
    (if (i32.eq (global.get $letter) (i32.const 114)) ;; r: the route is looked up again
      (then
        (call $digits (call $foreign (i32.const 1120) (i32.const 17) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 516)))))
    (if (i32.eq (global.get $letter) (i32.const 110)) ;; n: a function that there is not
      (then
        (call $digits (call $foreign (i32.const 1280) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 516)))))
    (i32.const 0))
)
