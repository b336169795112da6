;; trick: the result, where there is none yet
;; end: fine
(module
  (import "trocar" "ret" (func $ret (result i64)))
  (func (export "on_hit") (drop (call $ret))))
