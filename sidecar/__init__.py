"""An authorization sidecar: Cognito says who, routes.yaml says what is asked for, Cerbos says yes or no."""
