;; The smallest probe that is of use: it counts hits.
;;
;;     trocar build counter.wat
;;     trocar load counter.wasm -p PID --at FUNCTION
(module
  (import "trocar" "counter_add" (func $counter_add (param $map i32) (param $entry i32) (param $n i64)))

  (func (export "on_hit")
    (call $counter_add (i32.const 0) (i32.const 0) (i64.const 1)))

  ;; The manifest, as JSON. In a project of `trocar new wat` it is the file probe.toml instead.
  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"counter\","
    " \"maps\": [{\"name\": \"calls\", \"kind\": \"counter\", \"labels\": [\"all\"]}]}"))
