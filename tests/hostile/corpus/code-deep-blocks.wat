;; trick: 1900 blocks in one another
;; end: fine
(module
  (func (export "on_hit") 
;;*1900 block

;;*1900 end
))
