;; trick: 5000 blocks in one another
;; end: refused blocks within
(module
  (func (export "on_hit") 
;;*5000 block

;;*5000 end
))
