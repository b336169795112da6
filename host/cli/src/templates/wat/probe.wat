;; {{name}}: counts calls, and sizes up their first argument in powers of two.
;;
;;     trocar build
;;     trocar load {{name}}.wasm -p PID --at FUNCTION
;;
;; The manifest is in probe.toml; `trocar build` puts it into the module.
(module
  (import "trocar" "counter_add" (func $counter_add (param $map i32) (param $entry i32) (param $n i64)))
  (import "trocar" "hist_add" (func $hist_add (param $map i32) (param $entry i32) (param $value i64)))
  (import "trocar" "arg" (func $arg (param $n i32) (result i64)))

  ;; Places of the maps in the manifest.
  (global $CALLS i32 (i32.const 0))
  (global $SIZES i32 (i32.const 1))

  (func (export "on_hit")
    (call $counter_add (global.get $CALLS) (i32.const 0) (i64.const 1))
    (call $hist_add (global.get $SIZES) (i32.const 0) (call $arg (i32.const 0)))))
