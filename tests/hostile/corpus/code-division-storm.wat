;; trick: 1000 divisions
;; end: fine
(module
  (func (export "on_hit") (i64.const -1)
;;*1000 (i64.const 3) i64.div_u
 drop))
