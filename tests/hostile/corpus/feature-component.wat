;; trick: a component instead of a module
;; end: refused component
(component)
