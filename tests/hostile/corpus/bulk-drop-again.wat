;; trick: data.drop at every hit
;; end: fine
(module
  (memory (export "memory") 1)
  (data $d "abcd")
  (func (export "on_hit") (data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))))
