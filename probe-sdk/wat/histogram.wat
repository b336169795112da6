;; A histogram of the first argument in powers of two, if it is large enough. The limit is a parameter:
;;
;;     trocar build histogram.wat
;;     trocar load histogram.wasm -p PID --at libc.so.6:malloc --set least=4096
(module
  (import "trocar" "arg" (func $arg (param $n i32) (result i64)))
  (import "trocar" "param" (func $param (param $n i32) (result i64)))
  (import "trocar" "hist_add" (func $hist_add (param $map i32) (param $entry i32) (param $value i64)))

  ;; The result says whether the condition held; a hit where it did not is counted as such.
  (func (export "on_hit") (result i32)
    (local $size i64)
    (local.set $size (call $arg (i32.const 0)))
    (if (i64.lt_u (local.get $size) (call $param (i32.const 0)))
      (then (return (i32.const 0))))
    (call $hist_add (i32.const 0) (i32.const 0) (local.get $size))
    (i32.const 1))

  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"histogram\","
    " \"params\": [{\"name\": \"least\", \"type\": \"int\", \"default\": 0, \"about\": \"sizes below are left out\"}],"
    " \"maps\": [{\"name\": \"sizes\", \"kind\": \"hist\"}]}"))
